"""What the data is: readers, layouts, exact statistics, the fingerprint. Never imports torch."""
