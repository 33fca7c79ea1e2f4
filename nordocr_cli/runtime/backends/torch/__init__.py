"""Networks run by torch."""
