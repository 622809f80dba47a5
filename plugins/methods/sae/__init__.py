"""Sparse autoencoders. A file per kind (`topk`, `relu`, `untrained`); the others are what the kinds share."""
