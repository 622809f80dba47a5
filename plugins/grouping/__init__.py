"""Latents that belong together: when they fire, how alike two of them are, and how alike chance would make them."""
