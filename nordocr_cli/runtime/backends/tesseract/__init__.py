"""Tesseract, as its program or its library."""
