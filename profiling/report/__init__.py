"""The fingerprint for people: terminal and HTML."""
