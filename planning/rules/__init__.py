"""Pure planning rules: numbers in, numbers out."""
