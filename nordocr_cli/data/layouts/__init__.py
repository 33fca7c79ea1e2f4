"""Layout files: where the lines of a page are and what they say."""
