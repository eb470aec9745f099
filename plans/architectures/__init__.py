"""The registered architectures, one file each. Adding one: a file, and a line in ``ARCHITECTURES``."""
