"""What the engines share that make audio by denoising latents: one task from its text to its samples.

Importing this package imports no torch; that happens when an engine starts.
"""
