"""Low-rank adaptations: found by name, held against the model, and switched from task to task."""
