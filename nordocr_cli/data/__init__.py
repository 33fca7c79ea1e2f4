"""From image files and texts to line stores, and from line stores to batches."""
