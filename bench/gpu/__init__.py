"""One run on a machine with a GPU that reaches no registry: random weights, its own times, and those of diffusers.

Nothing of it has been seen on a GPU yet; its tests run it on a CPU with small networks.
"""
