"""Monitoring of a stream of documents through the latents of a decomposition: an alarm, and names of what changed."""
