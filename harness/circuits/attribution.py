"""Effects of single nodes: attributed to all of them by gradients, and exact ones of a few by patching."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from harness.circuits.nodes import Nodes
from harness.circuits.trials import SiteValues, Trials

N_CANDIDATES = 32
"""Nodes of most attributed effect that are patched, and as many others that attribution puts behind them."""
UNSEEN = 0.05
"""Chance that more nodes than is said have a larger effect than those drawn."""


@dataclass(frozen=True)
class Attribution:
    """Attributed indirect effects: by how much m changes if a node is as in the patch."""

    nodes: Float[Tensor, "b n"]
    errors: dict[str, Float[Tensor, " b"]]
    """The effect of each site's error."""
    totals: dict[str, Float[Tensor, " b"]]
    """The effect of each site's nodes and error together."""


def attribution(trials: Trials) -> Attribution:
    """The effects in each pair, in float64, by the mean gradients of the sites."""
    found = {site: _at_site(own, trials.values[site], trials.pairs.is_open) for site, own in trials.nodes.items()}
    return Attribution(
        nodes=torch.cat([effects for effects, _ in found.values()], dim=1),
        errors={site: error for site, (_, error) in found.items()},
        totals={site: effects.sum(dim=1) + error for site, (effects, error) in found.items()},
    )


def _at_site(
    nodes: Nodes, values: SiteValues, is_open: Bool[Tensor, "b t"]
) -> tuple[Float[Tensor, "b m"], Float[Tensor, " b"]]:
    device = nodes.directions.device
    effects, errors = [], []
    for clean, patch, gradient, is_own in zip(values.clean, values.patch, values.gradient, is_open, strict=True):
        sides = [x[None, is_own].to(device) for x in (clean, patch)]
        codes = [nodes.codes(x) for x in sides]
        own = gradient[None, is_own].to(device, nodes.directions.dtype)
        change = (codes[1] - codes[0]).double()
        effects.append((change * (own @ nodes.directions.T).double()).sum(dim=(0, 1)).cpu())
        left = [nodes.errors(x, f).double() for x, f in zip(sides, codes, strict=True)]
        errors.append(((left[1] - left[0]) * own.double()).sum().cpu())
    return torch.stack(effects), torch.stack(errors)


@dataclass(frozen=True)
class Effects:
    """Effects of nodes, means over the pairs that circuits are found on."""

    attributed: Float[Tensor, " n"]
    strongest: Int[Tensor, " k"]
    """Nodes of most attributed effect, the strongest first."""
    others: Int[Tensor, " k"]
    """Nodes drawn from the active ones behind these."""
    exact: dict[int, float]
    """The exact effect of each of them."""

    @property
    def order(self) -> Int[Tensor, " n"]:
        """All nodes, what m rests on most first: patching orders what attribution has chosen.

        First come the strongest whose exact effect lowers m, by it; then the rest by attribution; last those of the
        strongest that raise it.
        """
        keys = torch.stack([torch.ones(len(self.attributed), dtype=torch.float64), self.attributed.double()], dim=1)
        for node in self.strongest.tolist():
            keys[node] = torch.tensor([0.0 if self.exact[node] < 0 else 2.0, self.exact[node]])
        return torch.from_numpy(np.lexsort((keys[:, 1].numpy(), keys[:, 0].numpy())))

    @property
    def supporting(self) -> list[int]:
        """The strongest nodes that m rests on by their exact effect, the strongest first."""
        return sorted((node for node in self.strongest.tolist() if self.exact[node] < 0), key=self.exact.__getitem__)

    @property
    def concordance(self) -> float | None:
        """Lin's (1989) concordance of attributed and exact effects: 2 s_xy / (s_x² + s_y² + (x̄ − ȳ)²).

        A correlation would be ruled by the two largest, and not see effects that are all too large.
        """
        index = list(self.exact)
        x, y = self.attributed[index].double().numpy(), np.array([self.exact[node] for node in index])
        whole = x.var() + y.var() + (x.mean() - y.mean()) ** 2
        return float(2 * np.mean((x - x.mean()) * (y - y.mean())) / whole) if whole > 0 else None

    @property
    def missed(self) -> float | None:
        """The largest exact effect, as an absolute value, among nodes that attribution puts behind the strongest.

        Of n drawn at random, a share of 1 − .05^(1/n) of all at most has a larger one, with 95 % confidence (Wilks
        1941).
        """
        return max((abs(self.exact[node]) for node in self.others.tolist()), default=None)


def effects(trials: Trials, attributed: Float[Tensor, " n"], active: Bool[Tensor, " n"], seed: int) -> Effects:
    """Patch the strongest nodes by attribution, and as many others that are drawn by the seed."""
    ordered = attributed.abs().argsort(descending=True, stable=True)
    ordered = ordered[active[ordered]]
    strongest, rest = ordered[:N_CANDIDATES], ordered[N_CANDIDATES:]
    drawn = torch.randperm(len(rest), generator=torch.Generator().manual_seed(seed))[:N_CANDIDATES]
    others = rest[drawn]
    clean = trials.unedited()
    exact = {node: float((trials.patched([node]) - clean).mean()) for node in (*strongest.tolist(), *others.tolist())}
    return Effects(attributed, strongest, others, exact)
