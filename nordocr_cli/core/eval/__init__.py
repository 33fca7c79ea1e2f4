"""`nordocr eval`: score a recognizer or a recorded result on lines with known text."""
