"""Networks run by TensorRT, and by TensorRT for RTX."""
