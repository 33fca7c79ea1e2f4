"""Running recognizers: networks on their backends and Tesseract."""
