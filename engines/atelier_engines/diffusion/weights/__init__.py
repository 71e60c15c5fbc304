"""Where a model's weights come from and what they are. Nothing here imports torch."""
