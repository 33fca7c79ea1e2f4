"""Exported networks run by ONNX Runtime."""
