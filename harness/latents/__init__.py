"""How latents are looked at: their activations on text, the windows and examples shown, and cards."""
