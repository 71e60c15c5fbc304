"""What stores over SQL databases share: statements that all of them run, with the same result."""
