// Package atelier is a client of Atelier, a service that generates images and audio: a thin layer over the stubs in
// [example.com/atelier/go/atelier/v1].
//
// A [Client] connects with its first call, and is safe for concurrent use:
//
//	client, err := atelier.Connect("http://localhost:50051", atelier.WithToken(os.Getenv("ATELIER_TOKEN")))
//	if err != nil {
//		return err
//	}
//	defer client.Close()
//	for event, err := range client.Stream(ctx, &atelierv1.GenerateRequest{
//		Task: &atelierv1.GenerateRequest_Image{Image: &atelierv1.ImageTask{Prompt: "a red apple"}},
//	}) {
//		if err != nil {
//			return err
//		}
//		fmt.Println(event.Stage, event.Progress)
//	}
//
// # Lost connections
//
// A task carries a request id, so it may be sent again. A stream whose connection is lost is opened again after its last
// event, for up to 30 seconds without an answer (see [WithReconnectTimeout]); no event comes twice. A download goes on at
// its last byte, an upload begins anew. Calls with one answer are retried by gRPC, with the delay that the server gives.
//
// # Cancelling
//
// Ending the context of a call, or leaving the loop over [Client.Stream], cancels the task. Leaving one over
// [Client.Attach] does not.
//
// # Errors
//
// Every error of a call is an [*Error]: its gRPC code, the reason of the server, the wrong fields, and the time after
// which another try may succeed.
package atelier
