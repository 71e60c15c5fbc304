"""Measures the service: `python -m bench [NAME...]` prints figures and writes them to bench/results."""
