"""The formats in which `nordocr predict` writes its results."""
