"""LoRAs: found by name, checked against the model, and switched from task to task."""
