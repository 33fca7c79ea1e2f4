"""`nordocr adapt`: from scans without labels to a better recognizer."""
