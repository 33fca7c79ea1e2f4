"""`nordocr build-engine`: an ONNX model as TensorRT engines."""
