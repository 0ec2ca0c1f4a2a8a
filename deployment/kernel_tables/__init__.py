"""What onnxruntime runs of a network: fused kernels, and their sizes."""
