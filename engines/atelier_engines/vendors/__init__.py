"""Engines whose work is done by a remote service; one module or package a vendor, independent of each other."""
