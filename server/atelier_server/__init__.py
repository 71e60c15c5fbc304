"""The server: accepts tasks over gRPC, keeps them safe, has engines do them, tells what happens."""
