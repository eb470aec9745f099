"""Example ``plans.json`` files, for reading and for trying ``load_plans`` without planning.

Each is what ``plan-experiment`` writes for the data set and the card that its name tells; a test makes them
again and compares, so that they never fall behind the program.
"""
