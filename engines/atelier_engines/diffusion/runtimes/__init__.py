"""How a model's networks run. A runtime knows shapes and devices, and no model family."""
