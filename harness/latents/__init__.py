"""Latents for people and scorers: their activations on text, the windows that show them, and their cards."""
