"""Engines around engines: each adds one thing and has the same interface."""
