"""Trains sparse autoencoders: all that a kind of SAE shares with the others."""
