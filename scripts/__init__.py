"""Command-line entry points: thin shells over library calls."""
