"""Choosing what to train: hardware, traced memory, rules, the one planner."""
