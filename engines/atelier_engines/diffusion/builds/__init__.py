"""Builds of a diffusion model's networks: exported, compiled, compared with torch, and kept for later starts."""
