"""gRPC: the only part of the server that knows calls, codes and trailers."""
