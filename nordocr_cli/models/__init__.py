"""Networks that turn line images into CTC logits, by name; and their weights files."""
