"""Bytes of a training step: trace, autocast, allocator, estimate."""
