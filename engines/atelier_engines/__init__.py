"""Engines that make pictures and sounds. Installable alone: no server, no gRPC, no protobuf."""
