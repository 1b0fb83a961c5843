"""Cheaper inference: precision, compilation, and encoders in ONNX Runtime."""
