package atelier

import (
	"context"
	"errors"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
)

func TestErrorsHaveTheDetailsOfTheirStatus(t *testing.T) {
	sent, _ := status.New(codes.InvalidArgument, "too narrow").WithDetails(
		&errdetails.ErrorInfo{Domain: "atelier", Reason: "INVALID_REQUEST", Metadata: map[string]string{"generation_id": "g"}},
		&errdetails.BadRequest{FieldViolations: []*errdetails.BadRequest_FieldViolation{
			{Field: "generate.image.width", Description: "at least 16"},
		}},
		&errdetails.RetryInfo{RetryDelay: durationpb.New(time.Second)},
	)
	found := ErrorFrom(context.Background(), sent.Err())
	if found.Reason != "INVALID_REQUEST" || found.GenerationID != "g" || found.RetryAfter != time.Second ||
		found.Fields["image.width"] != "at least 16" {
		t.Errorf("%+v", found)
	}
	if status.Code(found) != codes.InvalidArgument {
		t.Error("the status is not found")
	}
}

func TestAnEndedContextIsTheReason(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	found := ErrorFrom(ctx, status.Error(codes.Unavailable, "closing"))
	if found.Code != codes.Canceled || !errors.Is(found, context.Canceled) {
		t.Errorf("%+v", found)
	}
}

func TestOnlyLostCallsAreMadeAgain(t *testing.T) {
	for _, one := range []struct {
		failure Error
		again   bool
	}{
		{Error{Code: codes.Unavailable}, true},
		{Error{Code: codes.Unavailable, Reason: "DRAINING"}, true},
		{Error{Code: codes.Unavailable, Reason: "QUEUE_FULL"}, false},
		{Error{Code: codes.InvalidArgument}, false},
		{Error{Code: codes.ResourceExhausted, Message: "RST_STREAM with code 11"}, true},
		{Error{Code: codes.ResourceExhausted, Message: "larger than max"}, false},
	} {
		reach := reachability{timeout: time.Minute}
		if _, again := reach.delayAfter(&one.failure); again != one.again {
			t.Errorf("%v: %v", &one.failure, again)
		}
	}
}

func TestDelaysDoubleAndHaveAnEnd(t *testing.T) {
	reach := reachability{timeout: time.Minute, reached: true}
	lost := &Error{Code: codes.Unavailable}
	for _, most := range []time.Duration{100, 200, 400, 800, 1600, 3000, 3000} {
		delay, again := reach.delayAfter(lost)
		if most *= time.Millisecond; !again || delay > most || delay < most/2 {
			t.Errorf("%v, at most %v", delay, most)
		}
	}
	if delay, _ := reach.delayAfter(&Error{Code: codes.Unavailable, RetryAfter: 5 * time.Second}); delay != 5*time.Second {
		t.Errorf("%v, not that of the server", delay)
	}
	reach.since = reach.since.Add(-time.Minute)
	if _, again := reach.delayAfter(lost); again {
		t.Error("no end")
	}
}

func TestAWrongAddressIsToldSoon(t *testing.T) {
	reach := reachability{timeout: time.Hour}
	lost := &Error{Code: codes.Unavailable}
	reach.delayAfter(lost)
	reach.since = reach.since.Add(-firstAnswerTimeout)
	if _, again := reach.delayAfter(lost); again {
		t.Error("tried for long")
	}
	if _, err := Connect("localhost:50051"); err == nil {
		t.Error("an address without a scheme")
	}
}
