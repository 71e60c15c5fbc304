"""Returns clips that were made before, where a caller asked for no seed and a similar prompt will do."""
