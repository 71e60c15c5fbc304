"""Where the bytes of artifacts are kept: a protocol, and one module for each kind of place."""
