"""`nordocr train`: plan a training, set it up and run it."""
