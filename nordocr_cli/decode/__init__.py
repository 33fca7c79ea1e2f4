"""From logits to text, in numpy."""
