"""One package per program that runs a network or reads a line by itself."""
