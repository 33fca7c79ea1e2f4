"""Running recognizers: networks on their backends, Tesseract, and the documents they read."""
