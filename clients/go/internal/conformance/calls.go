package main

import (
	"context"
	"encoding/json"
	"strings"
	"unicode"

	atelier "example.com/atelier/go"
	atelierv1 "example.com/atelier/go/atelier/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

var calls = map[string]func(context.Context, *atelier.Client, testCase) (any, error){
	"generate":  generate,
	"stream":    stream,
	"attach":    attach,
	"cancel":    leave,
	"cancelled": cancelled,
	"transfer":  transfer,
	"download":  download,
	"get": func(ctx context.Context, client *atelier.Client, one testCase) (any, error) {
		return unary(ctx, one, client.Stub.GetGeneration, &atelierv1.GetGenerationRequest{})
	},
	"plan": func(ctx context.Context, client *atelier.Client, one testCase) (any, error) {
		return unary(ctx, one, client.Stub.PlanGeneration, &atelierv1.PlanGenerationRequest{})
	},
	"health": func(ctx context.Context, client *atelier.Client, one testCase) (any, error) {
		return unary(ctx, one, client.Stub.Health, &atelierv1.HealthRequest{})
	},
}

func generate(ctx context.Context, client *atelier.Client, one testCase) (any, error) {
	generation, err := client.Generate(ctx, read(one))
	if err != nil {
		return nil, err
	}
	inline := 0
	for _, output := range generation.Outputs {
		inline += len(output.Data)
	}
	found := write(generation)
	found["inlineBytes"] = inline
	return found, nil
}

func stream(ctx context.Context, client *atelier.Client, one testCase) (any, error) {
	last, consecutive, next := "", true, uint32(1)
	for event, err := range client.Stream(ctx, read(one)) {
		if err != nil {
			return nil, err
		}
		consecutive = consecutive && event.Sequence == next
		next++
		if event.Generation != nil {
			last = event.Generation.State.String()
		}
	}
	return map[string]any{"state": last, "consecutive": consecutive}, nil
}

func attach(ctx context.Context, client *atelier.Client, one testCase) (any, error) {
	generation, err := client.Generate(ctx, read(one))
	if err != nil {
		return nil, err
	}
	first, consecutive, next := uint32(0), true, uint32(3)
	for event, err := range client.Attach(ctx, generation.Id, 2) {
		if err != nil {
			return nil, err
		}
		if first == 0 {
			first = event.Sequence
		}
		consecutive = consecutive && event.Sequence == next
		next++
	}
	return map[string]any{"first": first, "consecutive": consecutive}, nil
}

// leave leaves the stream of a task once it runs, and waits for its end.
func leave(ctx context.Context, client *atelier.Client, one testCase) (any, error) {
	id := ""
	for event, err := range client.Stream(ctx, read(one)) {
		if err != nil {
			return nil, err
		}
		if id = event.GenerationId; event.State == atelierv1.State_STATE_RUNNING {
			break
		}
	}
	for {
		answer, err := client.Stub.GetGeneration(ctx, &atelierv1.GetGenerationRequest{GenerationId: id})
		if err != nil || answer.Generation.EndTime != nil {
			return write(answer.GetGeneration()), err
		}
	}
}

// cancelled cancels a task once it runs, and asks for its outcome.
func cancelled(ctx context.Context, client *atelier.Client, one testCase) (any, error) {
	request := read(one)
	for event, err := range client.Stream(ctx, request) {
		if err == nil && event.State == atelierv1.State_STATE_RUNNING {
			_, err = client.Cancel(ctx, event.GenerationId)
		}
		if err != nil {
			return nil, err
		}
	}
	return client.Generate(ctx, request)
}

func transfer(ctx context.Context, client *atelier.Client, one testCase) (any, error) {
	data := make([]byte, one.Size)
	for index := range data {
		data[index] = byte((index*31 + index>>8) % 251)
	}
	artifact, err := client.Upload(ctx, data, one.MediaType)
	if err != nil {
		return nil, err
	}
	back, err := client.Download(ctx, artifact.Id)
	return map[string]any{"size": artifact.Size, "same": string(back) == string(data)}, err
}

func download(ctx context.Context, client *atelier.Client, one testCase) (any, error) {
	var request struct {
		ArtifactID string `json:"artifactId"`
	}
	if err := json.Unmarshal(one.Request, &request); err != nil {
		return nil, err
	}
	data, err := client.Download(ctx, request.ArtifactID)
	return map[string]any{"size": len(data)}, err
}

func read(one testCase) *atelierv1.GenerateRequest {
	request := &atelierv1.GenerateRequest{}
	if err := protojson.Unmarshal(one.Request, request); err != nil {
		panic(err)
	}
	return request
}

func write(message proto.Message) map[string]any {
	text, _ := protojson.Marshal(message)
	var found map[string]any
	_ = json.Unmarshal(text, &found)
	return found
}

// nameOf returns the code by gRPC's name.
func nameOf(code codes.Code) string {
	name := strings.Builder{}
	for index, letter := range code.String() {
		if index > 0 && unicode.IsUpper(letter) {
			name.WriteByte('_')
		}
		name.WriteRune(unicode.ToUpper(letter))
	}
	return strings.Replace(name.String(), "CANCELED", "CANCELLED", 1)
}

// unary calls a method of the contract.
func unary[Q, A proto.Message](
	ctx context.Context, one testCase, call func(context.Context, Q, ...grpc.CallOption) (A, error), request Q,
) (any, error) {
	if one.Request != nil {
		if err := protojson.Unmarshal(one.Request, request); err != nil {
			return nil, err
		}
	}
	answer, err := call(ctx, request)
	if err != nil {
		return nil, atelier.ErrorFrom(ctx, err)
	}
	return write(answer), nil
}
