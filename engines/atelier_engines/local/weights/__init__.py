"""Weight files: where they come from, what their headers say, and their digests. Imports no torch."""
