"""How many rows a run of the denoiser should have, as measured on a device."""
