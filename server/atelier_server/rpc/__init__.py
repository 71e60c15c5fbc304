"""The gRPC services. Only this package handles calls, status codes and trailers."""
