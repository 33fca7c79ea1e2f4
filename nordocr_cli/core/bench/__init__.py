"""`nordocr bench`: recognizers timed and scored side by side."""
