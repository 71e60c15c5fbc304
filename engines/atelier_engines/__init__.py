"""Engines that make pictures and sounds. Installable alone: knows no server, no gRPC, no protobuf."""
