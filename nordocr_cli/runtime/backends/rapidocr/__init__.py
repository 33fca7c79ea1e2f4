"""PP-OCR through the rapidocr wheel: a second opinion that needs no server."""
