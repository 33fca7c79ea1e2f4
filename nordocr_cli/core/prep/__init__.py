"""`nordocr prep`: labelled line images as a line store."""
