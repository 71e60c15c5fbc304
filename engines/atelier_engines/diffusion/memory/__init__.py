"""How much memory images take, and which of them fit into what is left of a device's memory."""
