"""Textual inversion embeddings: found by name, checked against the model, and put where prompts have their names."""
