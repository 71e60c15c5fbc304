package atelier_test

import (
	"context"
	"net"
	"testing"
	"time"

	atelier "example.com/atelier/go"
	atelierv1 "example.com/atelier/go/atelier/v1"
	"google.golang.org/grpc"
)

type silentService struct {
	atelierv1.UnimplementedGenerationServiceServer
}

// StreamProgress sends an event, so that the client knows of the server, and nothing more.
func (silentService) StreamProgress(
	_ *atelierv1.StreamProgressRequest, stream grpc.ServerStreamingServer[atelierv1.StreamProgressResponse],
) error {
	if err := stream.Send(&atelierv1.StreamProgressResponse{Sequence: 1}); err != nil {
		return err
	}
	<-stream.Context().Done()
	return nil
}

// A stream that goes on is not taken for one whose connection was lost, which would be tried again.
func TestClosingEndsStreamsAtOnce(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	atelierv1.RegisterGenerationServiceServer(server, silentService{})
	go server.Serve(listener)
	defer server.Stop()
	client, err := atelier.Connect("http://"+listener.Addr().String(), atelier.WithReconnectTimeout(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error)
	go func() {
		for _, err := range client.Stream(context.Background(), &atelierv1.GenerateRequest{}) {
			if err == nil {
				client.Close()
				client.Close() // again is no fault
			} else {
				ended <- err
			}
		}
	}()
	select {
	case <-ended:
	case <-time.After(time.Minute):
		t.Fatal("the stream goes on")
	}
	if _, err := client.Download(context.Background(), "a"); err == nil {
		t.Fatal("a closed client answers")
	}
}
