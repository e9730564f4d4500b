"""soniqd."""
