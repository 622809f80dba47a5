"""Contracts: what a plugin of each kind must have, what it may have, and what it is given and gives.

A file for each of the ten kinds: `method`, `similarity`, `scorer`, `explainer`, `judge`, `task`, `evaluation`, `model`,
`corpus` and `behaviour`, with what that kind alone is given. Besides, what several kinds have in common:
`decomposition` (saved and loaded by way of `saved_class`) with the arithmetic of a `linear` decoder, `rows` and `sites`
of activations, `latent` with the `requests` that may be made about one, the `spending` of judges, and `table_row`.
"""
