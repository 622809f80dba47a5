"""Trials: the model with some nodes kept and all others at a reference, their mean or their value in the patch.

Nodes of all sites are numbered together, in the order of the sites. At each site the codes of what arrives are taken
anew, so that a node which is kept is what the nodes before it have made of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from harness.circuits.nodes import Nodes
from harness.circuits.pairs import Pairs
from harness.contracts.runs import Edit, Runs

RunsOf = Callable[[Int[Tensor, "b t"], Int[Tensor, " b"]], Runs]


@dataclass(frozen=True)
class SiteValues:
    """The part of a contrast capture that is about one site."""

    clean: Float[Tensor, "b t d"]
    patch: Float[Tensor, "b t d"]
    gradient: Float[Tensor, "b t d"]
    """The mean gradient of m on the path from clean to patch."""

    def take(self, index: Int[Tensor, " n"], n_tokens: int) -> SiteValues:
        """The values of some pairs, and of as many tokens as these have."""
        return SiteValues(*(own[index, :n_tokens] for own in (self.clean, self.patch, self.gradient)))


@dataclass(frozen=True)
class Reference:
    """Values that nodes of one site have where they are not kept."""

    codes: Float[Tensor, "b t m"]
    errors: Float[Tensor, "b t d"]


@dataclass(frozen=True)
class Means:
    """Means over both sides of pairs, by the place of a token counted from the end."""

    codes: Float[Tensor, "t m"]
    errors: Float[Tensor, "t d"]

    @classmethod
    def of(cls, nodes: Nodes, values: SiteValues, pairs: Pairs) -> Means:
        """The means over pairs; at places where no pair has an open token, those over all places."""
        sums: list[Tensor] = []
        places = torch.cat([pairs.from_end[pairs.is_open]] * 2)
        for side in (nodes.codes, lambda x: nodes.errors(x, nodes.codes(x))):
            rows = torch.cat([side(x)[pairs.is_open] for x in (values.clean, values.patch)]).double()
            total = rows.new_zeros(pairs.clean.shape[1], rows.shape[1]).index_add_(0, places.to(rows.device), rows)
            n = torch.bincount(places, minlength=len(total))[:, None].to(rows.device)
            sums.append(torch.where(n > 0, total / n.clamp(min=1), rows.mean(dim=0)).float())
        return cls(*sums)

    def reference(self, pairs: Pairs) -> Reference:
        """The means at the places of pairs, which may be others; beyond the longest of them, those there."""
        places = pairs.from_end.clamp(max=len(self.codes) - 1)
        return Reference(self.codes[places], self.errors[places])


class Trials:
    """Pairs that a model is tried on, with the nodes of several sites."""

    def __init__(self, pairs: Pairs, runs_of: RunsOf, nodes: Mapping[str, Nodes], values: Mapping[str, SiteValues]):
        self.pairs, self.nodes, self.values = pairs, nodes, values
        self._index = pairs.batches()
        self._batches = [pairs.take(index) for index in self._index]
        self._runs = [runs_of(batch.clean, batch.lengths) for batch in self._batches]
        self.n_nodes = sum(own.n_latents for own in nodes.values())

    def means(self) -> dict[str, Means]:
        return {site: Means.of(own, self.values[site], self.pairs) for site, own in self.nodes.items()}

    def active(self) -> Bool[Tensor, " n"]:
        """True for nodes that are active in an open token of a pair, on either side."""
        return torch.cat(
            [
                torch.stack([(own.codes(x)[self.pairs.is_open] != 0).any(dim=0) for x in (sides.clean, sides.patch)])
                .any(dim=0)
                .cpu()
                for own, sides in ((self.nodes[site], self.values[site]) for site in self.nodes)
            ]
        )

    def unedited(self) -> Float[Tensor, " b"]:
        """Measure every pair."""
        return self._measured([{} for _ in self._batches])

    def ablated(
        self, keep: Bool[Tensor, "... n"], means: Mapping[str, Means], *, with_errors: bool = False
    ) -> Float[Tensor, " b"]:
        """Measure every pair with all nodes at their mean but those that are kept.

        Args:
            keep: of all pairs, or a row for each.
            means: of every site.
            with_errors: keep the errors too.
        """
        kept = self._kept(keep)
        edits = [
            self._edits(batch, own, {site: mean.reference(batch) for site, mean in means.items()}, with_errors)
            for batch, own in zip(self._batches, kept, strict=True)
        ]
        return self._measured(edits)

    def patched(self, nodes: Sequence[int]) -> Float[Tensor, " b"]:
        """Measure every pair with these nodes as in the patch, all others as they come."""
        keep = torch.ones(self.n_nodes, dtype=torch.bool)
        keep[list(nodes)] = False
        edits = []
        for batch, index, own in zip(self._batches, self._index, self._kept(keep), strict=True):
            patch = {site: self.values[site].take(index, batch.clean.shape[1]).patch for site in self._sites_of(nodes)}
            found = {site: _of_patch(self.nodes[site], x) for site, x in patch.items()}
            edits.append(self._edits(batch, own, found, with_errors=True))
        return self._measured(edits)

    def split(self, per_node: Tensor) -> dict[str, Tensor]:
        """The parts of something by node, by site."""
        sizes = [own.n_latents for own in self.nodes.values()]
        return dict(zip(self.nodes, per_node.split(sizes, dim=-1), strict=True))

    def _sites_of(self, nodes: Sequence[int]) -> list[str]:
        chosen = torch.zeros(self.n_nodes, dtype=torch.bool)
        chosen[list(nodes)] = True
        return [site for site, own in self.split(chosen).items() if own.any()]

    def _kept(self, keep: Bool[Tensor, "... n"]) -> list[dict[str, Tensor]]:
        whole = keep.expand(len(self.pairs), self.n_nodes)
        return [self.split(whole[index]) for index in self._index]

    def _edits(
        self, batch: Pairs, keep: Mapping[str, Tensor], references: Mapping[str, Reference], with_errors: bool
    ) -> dict[str, Edit]:
        return {
            site: _Kept(self.nodes[site], keep[site][:, None], reference, batch.is_open, with_errors)
            for site, reference in references.items()
        }

    def _measured(self, edits: Sequence[Mapping[str, Edit]]) -> Float[Tensor, " b"]:
        found = torch.empty(len(self.pairs), dtype=torch.float64)
        for index, batch, runs, own in zip(self._index, self._batches, self._runs, edits, strict=True):
            found[index] = batch.measure(runs.logits(own)).cpu()
        return found


@dataclass(frozen=True)
class _Kept:
    """An edit that puts a reference in the place of all nodes of a site that are not kept."""

    nodes: Nodes
    keep: Bool[Tensor, "b 1 m"]
    reference: Reference
    is_open: Bool[Tensor, "b t"]
    with_errors: bool

    @torch.no_grad()
    def __call__(self, x: Float[Tensor, "b t d"], /) -> Float[Tensor, "b t d"]:
        keep, is_open = self.keep.to(x.device), self.is_open.to(x.device)[..., None]
        codes = self.nodes.codes(x)
        change = torch.where(keep, 0, self.reference.codes.to(codes) - codes) @ self.nodes.directions
        if not self.with_errors:
            change = change + self.reference.errors.to(codes) - self.nodes.errors(x, codes)
        return torch.where(is_open, x + change.to(x.dtype), x)


def _of_patch(nodes: Nodes, patch: Float[Tensor, "b t d"]) -> Reference:
    codes = nodes.codes(patch)
    return Reference(codes, nodes.errors(patch, codes))
