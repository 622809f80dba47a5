"""Circuits: which latents, at several sites of a model together, a behaviour rests on; and whether that is so."""
