"""Limits: the sizes at which circuits are measured, and what has to hold before one is claimed. Imports no torch."""

SIZES = (1, 2, 5, 10, 20, 50, 100, 200, 500)
"""Numbers of nodes at which faithfulness is measured: even steps of their logarithm."""
LEVEL = 0.8
"""Faithfulness that `nodes_for_0.8` reaches."""
MIN_ACCURACY = 0.75
"""Share of pairs with m above 0 below which a model counts as failing a behaviour."""
MIN_CARRIED = 0.5
"""Faithfulness of all latents together below which no circuit among them is claimed."""
