package atelier

import (
	"context"
	"crypto/rand"
	"errors"
	"io"
	"iter"
	"sync"
	"time"

	atelierv1 "example.com/atelier/go/atelier/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
)

// Client is a connection to a server; [Connect] makes one.
type Client struct {
	// Stub has all calls of the contract, as generated: for what this layer has no method for.
	Stub atelierv1.GenerationServiceClient

	connection       *grpc.ClientConn
	reconnectTimeout time.Duration
	closed           chan struct{}
	closing          sync.Once
}

// Close ends the connection and all calls on it, also those that wait for a lost server. A later call fails.
func (client *Client) Close() error {
	client.closing.Do(func() { close(client.closed) })
	return client.connection.Close()
}

func (client *Client) isClosed() bool {
	select {
	case <-client.closed:
		return true
	default:
		return false
	}
}

// Generate runs a task to its end and returns the generation, which has succeeded. The error of one that has failed or
// was cancelled names it in GenerationID.
func (client *Client) Generate(ctx context.Context, request *atelierv1.GenerateRequest) (*atelierv1.Generation, error) {
	var last *atelierv1.Generation
	for event, err := range client.Stream(ctx, request) {
		if err != nil {
			return nil, err
		}
		last = event.Generation
	}
	if last == nil {
		return nil, &Error{Code: codes.Internal, Message: "the stream ended without an outcome"}
	}
	if err := outcomeError(last); err != nil {
		return nil, err
	}
	return last, nil
}

// Stream starts a task and yields its events to the last, which has the generation, also one that has failed. An error
// is the last that it yields: the task was rejected, or the server stayed out of reach.
//
// Leaving the loop early, and ending the context, cancel the task.
func (client *Client) Stream(
	ctx context.Context, request *atelierv1.GenerateRequest,
) iter.Seq2[*atelierv1.StreamProgressResponse, error] {
	named := proto.Clone(request).(*atelierv1.GenerateRequest)
	if named.RequestId == "" {
		named.RequestId = rand.Text()
	}
	return client.follow(ctx, &atelierv1.StreamProgressRequest{
		Target:        &atelierv1.StreamProgressRequest_Generate{Generate: named},
		InlineOutputs: named.InlineOutputs,
	})
}

// Attach yields the events of a generation that follow the sequence number after; as Stream, but leaving it early
// cancels nothing.
func (client *Client) Attach(
	ctx context.Context, generationID string, after uint32,
) iter.Seq2[*atelierv1.StreamProgressResponse, error] {
	return client.follow(ctx, &atelierv1.StreamProgressRequest{
		Target:        &atelierv1.StreamProgressRequest_GenerationId{GenerationId: generationID},
		AfterSequence: after,
	})
}

func (client *Client) follow(
	ctx context.Context, start *atelierv1.StreamProgressRequest,
) iter.Seq2[*atelierv1.StreamProgressResponse, error] {
	return func(yield func(*atelierv1.StreamProgressResponse, error) bool) {
		request := proto.Clone(start).(*atelierv1.StreamProgressRequest) // the loop may be run again
		left := false
		err := client.repeat(ctx, func(ctx context.Context, reach *reachability) error {
			stream, err := client.Stub.StreamProgress(ctx, request)
			if err != nil {
				return err
			}
			for {
				event, err := stream.Recv()
				if err != nil {
					return err
				}
				reach.answered()
				if event.Sequence <= request.AfterSequence {
					continue // sent again, to keep the connection open
				}
				request.AfterSequence = event.Sequence
				if left = !yield(event, nil); left {
					return io.EOF
				}
			}
		})
		if err != nil && !left {
			yield(nil, err)
		}
	}
}

// Cancel stops a generation; the answer says what was really stopped.
func (client *Client) Cancel(ctx context.Context, generationID string) (*atelierv1.CancelGenerationResponse, error) {
	answer, err := client.Stub.CancelGeneration(ctx, &atelierv1.CancelGenerationRequest{GenerationId: generationID})
	if err != nil {
		return nil, ErrorFrom(ctx, err)
	}
	return answer, nil
}

// repeat makes a call until it ends with io.EOF or nil, fails for good, or the server stays out of reach. Each attempt
// has a context that ends with it.
func (client *Client) repeat(
	ctx context.Context, attempt func(ctx context.Context, reach *reachability) error,
) error {
	reach := reachability{timeout: client.reconnectTimeout}
	for {
		calling, end := context.WithCancel(ctx)
		err := attempt(calling, &reach)
		end()
		if err == nil || errors.Is(err, io.EOF) {
			return nil
		}
		failure := ErrorFrom(ctx, err)
		delay, again := reach.delayAfter(failure)
		if !again || ctx.Err() != nil || client.isClosed() {
			return failure
		}
		select {
		case <-time.After(delay):
		case <-client.closed:
			return failure
		case <-ctx.Done():
			return ErrorFrom(ctx, ctx.Err())
		}
	}
}
