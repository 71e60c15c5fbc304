"""Servers of peers, each a program for an environment of its own; see `bench.peers`."""
