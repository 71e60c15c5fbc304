// Calls one method with the retry policy of the standard Go client, without generated code.
//
// The request is read from standard input, as protobuf bytes. The result goes to standard output as one line of JSON.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/stats"
	"google.golang.org/grpc/status"
)

const policy = `{"methodConfig": [{"name": [{}], "waitForReady": true, "retryPolicy": {
	"maxAttempts": 5, "initialBackoff": "0.5s", "maxBackoff": "5s", "backoffMultiplier": 2,
	"retryableStatusCodes": ["UNAVAILABLE"]}}]}`

// bytesCodec passes messages on as they are.
type bytesCodec struct{}

func (bytesCodec) Marshal(message any) ([]byte, error) { return *message.(*[]byte), nil }
func (bytesCodec) Unmarshal(data []byte, message any) error {
	*message.(*[]byte) = append([]byte(nil), data...)
	return nil
}
func (bytesCodec) Name() string { return "proto" }

// attemptCounter counts the attempts that the library makes of one call.
type attemptCounter struct{ attempts int }

func (counter *attemptCounter) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context {
	return ctx
}
func (counter *attemptCounter) HandleRPC(_ context.Context, event stats.RPCStats) {
	if _, begins := event.(*stats.Begin); begins {
		counter.attempts++
	}
}
func (counter *attemptCounter) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context {
	return ctx
}
func (counter *attemptCounter) HandleConn(context.Context, stats.ConnStats) {}

type result struct {
	Code     uint32              `json:"code"`
	Message  string              `json:"message"`
	Attempts int                 `json:"attempts"`
	Response []byte              `json:"response"` // base 64
	Trailers map[string][]string `json:"trailers"`
	Details  []byte              `json:"details"` // base 64 of the google.rpc.Status
}

func call(address, method string, request []byte) (result, error) {
	counter := &attemptCounter{}
	connection, err := grpc.NewClient(address,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultServiceConfig(policy),
		grpc.WithStatsHandler(counter))
	if err != nil {
		return result{}, err
	}
	defer connection.Close()
	var response []byte
	var trailers metadata.MD
	err = connection.Invoke(context.Background(), "/atelier.v1.GenerationService/"+method, &request, &response,
		grpc.ForceCodec(bytesCodec{}), grpc.Trailer(&trailers))
	ended := status.Convert(err)
	found := result{Code: uint32(ended.Code()), Message: ended.Message(), Attempts: counter.attempts, Response: response}
	if details := trailers.Get("grpc-status-details-bin"); len(details) > 0 {
		found.Details = []byte(details[0])
		trailers.Delete("grpc-status-details-bin")
	}
	found.Trailers = trailers
	return found, nil
}

func run() error {
	address := flag.String("address", "", "HOST:PORT of the server")
	method := flag.String("method", "", "name of the method")
	flag.Parse()
	if *address == "" || *method == "" {
		return errors.New("give -address and -method")
	}
	request, err := io.ReadAll(os.Stdin)
	if err != nil {
		return err
	}
	found, err := call(*address, *method, request)
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(found)
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
