"""Engines that generate images and audio. Can be installed alone: no server, no gRPC, no protobuf."""
