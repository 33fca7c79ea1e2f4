"""The proof on a GPU: everything of this package that a GPU runs, in one command."""
