"""The Connect protocol and gRPC-Web over HTTP: for browsers, curl, and clients without gRPC."""
