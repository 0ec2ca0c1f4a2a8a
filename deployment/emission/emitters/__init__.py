"""The emitters: one function a primitive, which writes its nodes into the ONNX graph."""

from deployment.emission.emitters.table import EMITTERS, add_emitter

__all__ = ["EMITTERS", "add_emitter"]
