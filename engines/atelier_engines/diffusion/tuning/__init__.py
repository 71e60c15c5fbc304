"""Measures the best batch size of the denoiser on a device, for `atelier tune`."""
