"""Example plans that the documentation shows and a test regenerates."""
