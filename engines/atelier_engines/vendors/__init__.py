"""Engines of remote services; one module or package a vendor, independent of each other."""
