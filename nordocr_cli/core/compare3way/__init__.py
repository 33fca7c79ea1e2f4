"""`nordocr compare3way`: two recorded results and a reference, aligned region by region."""
