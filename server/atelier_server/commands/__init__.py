"""What the server adds to the `atelier` command, one command a module."""
