"""What model families are: how they are conditioned, what their latents look like."""
