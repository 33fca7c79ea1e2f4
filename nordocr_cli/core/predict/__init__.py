"""`nordocr predict`: read line images and pages."""
