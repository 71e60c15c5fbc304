package atelier

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"

	atelierv1 "example.com/atelier/go/atelier/v1"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
)

// The largest chunk of the contract.
const chunkBytes = 512 << 10

// Upload stores a file and returns its artifact; the server checks its SHA-256. The media type is that of an image or
// of audio, such as image/png.
func (client *Client) Upload(ctx context.Context, data []byte, mediaType string) (*atelierv1.Artifact, error) {
	sum := sha256.Sum256(data)
	header := &atelierv1.UploadHeader{
		MediaType: mediaType,
		Size:      proto.Uint64(uint64(len(data))),
		Sha256:    proto.String(hex.EncodeToString(sum[:])),
	}
	var artifact *atelierv1.Artifact
	err := client.repeat(ctx, func(ctx context.Context, reach *reachability) error {
		stream, err := client.Stub.UploadArtifact(ctx)
		if err != nil {
			return err
		}
		err = stream.Send(&atelierv1.UploadArtifactRequest{Part: &atelierv1.UploadArtifactRequest_Header{Header: header}})
		for start := 0; start < len(data) && err == nil; start += chunkBytes {
			chunk := data[start:min(start+chunkBytes, len(data))]
			err = stream.Send(&atelierv1.UploadArtifactRequest{Part: &atelierv1.UploadArtifactRequest_Chunk{Chunk: chunk}})
			reach.reached = reach.reached || (err == nil && start > 0) // the first chunk has left: there is a server
		}
		if err != nil && !errors.Is(err, io.EOF) { // after EOF, the answer has the status
			return err
		}
		answer, err := stream.CloseAndRecv()
		artifact = answer.GetArtifact()
		return err
	})
	return artifact, err
}

// Download returns the bytes of an artifact. After a lost connection it goes on at the last byte. The bytes have the
// SHA-256 that the server tells, or there is an error with the code DataLoss.
func (client *Client) Download(ctx context.Context, artifactID string) ([]byte, error) {
	var artifact *atelierv1.Artifact
	var data bytes.Buffer
	err := client.repeat(ctx, func(ctx context.Context, reach *reachability) error {
		request := &atelierv1.DownloadArtifactRequest{ArtifactId: artifactID, Offset: uint64(data.Len())}
		stream, err := client.Stub.DownloadArtifact(ctx, request)
		if err != nil {
			return err
		}
		for {
			message, err := stream.Recv()
			if err != nil {
				return err
			}
			reach.answered()
			if artifact == nil {
				artifact = message.GetArtifact()
			}
			data.Write(message.GetChunk())
		}
	})
	if err != nil {
		return nil, err
	}
	if sum := sha256.Sum256(data.Bytes()); hex.EncodeToString(sum[:]) != artifact.GetSha256() {
		return nil, &Error{Code: codes.DataLoss, Message: fmt.Sprintf("the bytes of artifact %s are damaged", artifactID)}
	}
	return data.Bytes(), nil
}
