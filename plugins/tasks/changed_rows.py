"""Rows that a task changes and compares, of one pair of neighbouring sites for each model."""

from __future__ import annotations

from collections.abc import Iterator

from jaxtyping import Float
from torch import Tensor

import harness
from harness.plugins.tasks import RowsConfig, in_middle
from harness.plugins.tasks.answers import by_family, places_of


def neighbouring_sites(
    comparisons: harness.Comparisons, config: RowsConfig
) -> Iterator[tuple[str, str, Float[Tensor, "n d"], Float[Tensor, "n d"]]]:
    """Family, model, and the same rows at a model's middle site and at the site before, or twice at the middle one."""
    for family, models in by_family(comparisons, config.families).items():
        for model in models:
            places = places_of(comparisons, model)
            sites = comparisons.sites
            pairs = [(i, j) for i in places for j in places if in_middle(config, sites[i], sites[j])]
            if not pairs:
                continue
            # The site before comes first, as it is the lower one; without it the middle one stands for both.
            i, j = pairs[0]
            x, y = comparisons.shared_rows(i, j)
            if len(x) < config.n_rows:
                raise harness.Undefined(f"{model} has {len(x)} evaluation rows, fewer than n_rows: {config.n_rows}")
            yield family, model, x[: config.n_rows], y[: config.n_rows]


def alike_or_nothing(comparisons: harness.Comparisons, x: Tensor, y: Tensor) -> float | None:
    """The similarity of two sets of rows; None if that is undefined."""
    try:
        return comparisons.compare(x, y)
    except harness.Undefined:
        return None
