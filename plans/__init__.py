"""What a plan may say, and using it in training."""
