"""Which networks are in a device's memory, and what else fits beside them."""
