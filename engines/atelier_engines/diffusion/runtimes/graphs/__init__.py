"""The graphs of a model's networks: their inputs, and how they are exported to ONNX."""
