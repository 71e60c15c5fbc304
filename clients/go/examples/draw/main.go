// Draw generates an image with a progress bar, and saves it:
//
//	go run ./examples/draw "a red apple" apple.png [http://localhost:50051]
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"strings"

	atelier "example.com/atelier/go"
	atelierv1 "example.com/atelier/go/atelier/v1"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt) // leaving cancels the task
	defer stop()
	if err := draw(ctx, argument(1, "a red apple"), argument(2, "apple.png"), argument(3, "http://localhost:50051")); err != nil {
		fmt.Fprintln(os.Stderr, "\n"+err.Error())
		os.Exit(1)
	}
}

func argument(position int, otherwise string) string {
	if len(os.Args) > position {
		return os.Args[position]
	}
	return otherwise
}

func draw(ctx context.Context, prompt, file, address string) error {
	client, err := atelier.Connect(address, atelier.WithToken(os.Getenv("ATELIER_TOKEN")))
	if err != nil {
		return err
	}
	defer client.Close()
	var generation *atelierv1.Generation
	for event, err := range client.Stream(ctx, &atelierv1.GenerateRequest{
		Task: &atelierv1.GenerateRequest_Image{Image: &atelierv1.ImageTask{Prompt: prompt}},
	}) {
		if err != nil {
			return err
		}
		bar := strings.Repeat("#", int(event.Progress*30))
		fmt.Fprintf(os.Stderr, "\r[%-30s] %-12s", bar, event.Stage)
		generation = event.Generation
	}
	if len(generation.GetOutputs()) == 0 {
		return fmt.Errorf("no image: %s %s", generation.GetState(), generation.GetFailure().GetMessage())
	}
	data, err := client.Download(ctx, generation.Outputs[0].Artifact.Id)
	if err != nil {
		return err
	}
	fmt.Fprintln(os.Stderr, "\n"+file)
	return os.WriteFile(file, data, 0o644)
}
