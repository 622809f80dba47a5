"""Group separation: is a model more alike to one of its own family than to one of another?

For a model a, its layer l, another model b of its family and a model c of another family with as many layers:

    separation = mean over a, l, c and b of [S(a, l; b, l) > S(a, l; c, l)]

which is 1/2 for guesses and for a metric that sees no difference between families (Klabunde et al. 2024, arXiv
2408.00531, tests 3 to 5, call 1 − separation the violation rate; they count ties as right, here they are wrong).
"""

from __future__ import annotations

import harness
from harness.plugins.tasks import FamiliesConfig
from harness.plugins.tasks.answers import Sums, places_of, trained_families


class GroupSeparation:
    """One score over all trained families of equal depth; a family of one model has no pair of its own."""

    metric = "separation"

    def __init__(self, config: FamiliesConfig) -> None:
        self.families = config.families

    def score(self, comparisons: harness.Comparisons) -> list[harness.TaskScore]:
        families = trained_families(comparisons, self.families)
        separation = Sums(comparisons.models)
        for family, models in families.items():
            for a in models:
                own = [b for b in models if b != a]
                for c in (model for other in families if other != family for model in families[other]):
                    self._judge(comparisons, a, own, c, separation)
        if not separation.n:
            raise harness.Undefined("no family of two models has another family of equal depth to be compared with")
        return [separation.score("separation", " | ".join(families))]

    def _judge(self, comparisons: harness.Comparisons, a: str, own: list[str], c: str, separation: Sums) -> None:
        for i in places_of(comparisons, a):
            others = [j for j in places_of(comparisons, c) if _is_same_layer(comparisons, i, j)]
            for b in own:
                for k in (k for k in places_of(comparisons, b) if _is_same_layer(comparisons, i, k)):
                    for j in others:
                        separation.add(a, c, float(comparisons.alike[i, k] > comparisons.alike[i, j]))


def _is_same_layer(comparisons: harness.Comparisons, i: int, j: int) -> bool:
    one, other = comparisons.sites[i], comparisons.sites[j]
    return (one.layer, one.n_layers) == (other.layer, other.n_layers)
