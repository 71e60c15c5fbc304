"""Stored blobs: where their bytes lie, and how media become bytes and back."""
