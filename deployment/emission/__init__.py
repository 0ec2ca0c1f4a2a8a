"""A network as an ONNX graph, in the forms that are asked for."""
