"""Measurements behind every claim of speed, memory or accuracy. Not part of the wheel.

Run from an editable install: ``python -m voxplan.scripts.benchmarks.profile_speed --help``.
"""
