package atelier_test

import (
	"context"
	"fmt"
	"os"

	atelier "example.com/atelier/go"
	atelierv1 "example.com/atelier/go/atelier/v1"
)

func ExampleClient_Stream() {
	client, err := atelier.Connect("https://atelier.example:50051", atelier.WithToken(os.Getenv("ATELIER_TOKEN")))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer client.Close()
	request := &atelierv1.GenerateRequest{
		Task: &atelierv1.GenerateRequest_Image{Image: &atelierv1.ImageTask{Prompt: "a red apple"}},
	}
	for event, err := range client.Stream(context.Background(), request) {
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(event.Stage, event.Progress)
	}
}
