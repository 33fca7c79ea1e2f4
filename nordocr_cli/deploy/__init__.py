"""From trained weights to ONNX and to TensorRT engines."""
