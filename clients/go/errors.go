package atelier

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	atelierv1 "example.com/atelier/go/atelier/v1"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Error is what a call failed with, read from its status and the google.rpc details.
type Error struct {
	// Code is the code of gRPC.
	Code codes.Code
	// Reason is that of the server, such as INVALID_REQUEST; empty where a library or a proxy has answered.
	Reason string
	// Message says what happened and what to change.
	Message string
	// Fields has descriptions of wrong fields, by their paths in the request, such as image.width.
	Fields map[string]string
	// RetryAfter is the time after which the same request may succeed; zero if it will not, or nobody knows.
	RetryAfter time.Duration
	// GenerationID is the generation that the call had begun or followed; empty if there is none.
	GenerationID string

	cause error
}

// Error returns the code, the reason where there is one, and the message.
func (err *Error) Error() string {
	if err.Reason == "" {
		return fmt.Sprintf("%s: %s", err.Code, err.Message)
	}
	return fmt.Sprintf("%s (%s): %s", err.Code, err.Reason, err.Message)
}

// Unwrap returns the error of gRPC or of the context.
func (err *Error) Unwrap() error { return err.cause }

// GRPCStatus lets [status.FromError] find the status.
func (err *Error) GRPCStatus() *status.Status {
	if found, ok := status.FromError(err.cause); ok && err.cause != nil {
		return found
	}
	return status.New(err.Code, err.Message)
}

// isLost tells whether the connection was lost, or the server said so: whoever has a request id can attach again.
func (err *Error) isLost() bool {
	if err.Reason != "" {
		return err.Reason == "DRAINING"
	}
	switch err.Code {
	case codes.Unavailable, codes.Internal, codes.Unknown, codes.Canceled, codes.Aborted:
		return true
	case codes.DeadlineExceeded: // a proxy's: that of the caller ends the context first
		return true
	default:
		// The library's words for a stream or a connection that the other side has closed, whatever the code.
		return strings.Contains(err.Message, "RST_STREAM") || strings.Contains(err.Message, "GOAWAY")
	}
}

// ErrorFrom reads what a call failed with, such as one of [Client.Stub]. If its context has ended, that is the reason.
func ErrorFrom(ctx context.Context, thrown error) *Error {
	if known := (*Error)(nil); errors.As(thrown, &known) {
		return known
	}
	if ended := ctx.Err(); ended != nil {
		return &Error{Code: status.FromContextError(ended).Code(), Message: ended.Error(), cause: ended}
	}
	found, _ := status.FromError(thrown)
	made := &Error{Code: found.Code(), Message: found.Message(), cause: thrown}
	for _, detail := range found.Details() {
		switch detail := detail.(type) {
		case *errdetails.ErrorInfo:
			if detail.Domain == "atelier" {
				made.Reason = detail.Reason
				made.GenerationID = detail.Metadata["generation_id"]
			}
		case *errdetails.BadRequest:
			made.Fields = make(map[string]string)
			for _, one := range detail.FieldViolations {
				made.Fields[strings.TrimPrefix(one.Field, "generate.")] = one.Description
			}
		case *errdetails.RetryInfo:
			made.RetryAfter = detail.RetryDelay.AsDuration()
		}
	}
	return made
}

// outcomeError is the error of a generation that has ended without success, or nil.
func outcomeError(generation *atelierv1.Generation) error {
	switch {
	case generation.GetFailure() != nil:
		failure := generation.Failure
		return &Error{
			Code: codes.Code(failure.Code), Reason: failure.Reason, Message: failure.Message, GenerationID: generation.Id,
		}
	case generation.GetState() == atelierv1.State_STATE_CANCELLED:
		return &Error{
			Code: codes.Canceled, Reason: "CANCELLED", Message: "the generation was cancelled", GenerationID: generation.Id,
		}
	default:
		return nil
	}
}
