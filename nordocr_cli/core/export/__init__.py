"""`nordocr export`: a checkpoint as an ONNX model that is proved equal to it."""
