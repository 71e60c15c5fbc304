"""The graphs of a model's networks: their inputs, how they are exported to ONNX, and where the files are kept."""
