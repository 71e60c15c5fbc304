"""Audio: finishing what engines make, and writing it into files."""
