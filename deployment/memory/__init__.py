"""The memory that a file takes, as onnxruntime plans it."""
