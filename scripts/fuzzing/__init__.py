"""Mutants of volume files, and what the profiler makes of them. Not part of the installed package."""
