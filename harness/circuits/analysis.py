"""The analysis of one behaviour through the decompositions of several sites: what the table `circuits` says of it.

Circuits are found on half of the groups of pairs and judged on the others. None is claimed where the model fails the
behaviour, or where the latents don't carry it: then metrics have no value, and the reason why.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy.special import stdtrit
from torch import Tensor

from harness.circuits.attribution import UNSEEN, Attribution, Effects, attribution, effects
from harness.circuits.faithfulness import Faithfulness, Share, cmd, cpr, nodes_for_level
from harness.circuits.limits import LEVEL, MIN_ACCURACY, MIN_CARRIED, SIZES
from harness.circuits.minimal import minimal, necessity
from harness.circuits.nodes import Nodes
from harness.circuits.pairs import Pairs
from harness.circuits.trials import Means, RunsOf, SiteValues, Trials
from harness.errors import Undefined
from harness.storage.records import row

_MINIMAL = ("n_minimal", "minimal_faithfulness", "completeness", "minimal_share_necessary")


@dataclass(frozen=True)
class Finding:
    """One row of the table `circuits`."""

    metric: str
    value: float | None
    n: int
    higher_is_better: bool | None = None
    reason: str | None = None
    share: Share | None = None
    """The sums by group that the value is a ratio of, from which it gets its interval."""
    site: str | None = None
    """Set where it is about one site."""

    def row(self) -> dict[str, Any]:
        """The row of a record, groups being what documents are to evaluations."""
        found = row("circuits", self.metric, self.value, self.n, self.higher_is_better, self.reason)
        if self.share is not None:
            sums = {"numerator": self.share.numerator, "denominator": self.share.denominator}
            found["documents"] = {name: own.tolist() for name, own in sums.items()}
        return found if self.site is None else found | {"site": self.site}


@dataclass(frozen=True)
class Node:
    """A latent with its effects, for the artefact."""

    site: str
    latent: int
    attributed: float
    exact: float | None
    is_in_circuit: bool
    is_necessary: bool | None


@dataclass(frozen=True)
class Analysis:
    """All that is found out about a behaviour in one set of decompositions."""

    findings: list[Finding]
    nodes: list[Node] = field(default_factory=list)
    """The nodes of most effect, the strongest first."""


def solved(pairs: Pairs, clean: Float[Tensor, " b"], patch: Float[Tensor, " b"]) -> tuple[list[Finding], str | None]:
    """The rows of how well the model does, and the reason why nothing is claimed if it fails.

    Args:
        pairs: all of them.
        clean: m of each.
        patch: m of the patch, by the answers of the clean text.
    """
    n, ones = len(pairs), pairs.by_group(torch.ones(len(pairs))).numpy()
    shares = {
        "accuracy": Share(pairs.by_group((clean > 0).double()).numpy(), ones),
        "m_clean": Share(pairs.by_group(clean).numpy(), ones),
        "m_patch": Share(pairs.by_group(patch).numpy(), ones),
    }
    found = [Finding(name, share.value, n, {"accuracy": True}.get(name), share=share) for name, share in shares.items()]
    accuracy, means = shares["accuracy"].value or 0.0, shares["m_clean"].numerator / ones
    error = means.std(ddof=1) / math.sqrt(len(means)) * float(stdtrit(len(means) - 1, 0.975))
    reason = None
    if accuracy < MIN_ACCURACY:
        reason = f"the model fails the behaviour: {accuracy:.2f} of its answers are right"
    elif not means.mean() > error:
        reason = f"the model fails the behaviour: m is {means.mean():.2f} ± {error:.2f}"
    return found, reason


def unclaimed(reason: str, n: int) -> list[Finding]:
    """Rows without a value, for a behaviour that the model does not do."""
    return [
        Finding(name, None, n, reason=reason) for name in ("carried", "cpr", "cmd", f"nodes_for_{LEVEL}", *_MINIMAL)
    ]


@dataclass(frozen=True)
class Subject:
    """Pairs, and the decompositions of several sites of the model that is run on them."""

    pairs: Pairs
    runs_of: RunsOf
    nodes: Mapping[str, Nodes]
    """Latents by site, in forward order."""
    values: Mapping[str, SiteValues]

    def trials(self, index: Tensor) -> Trials:
        """The trials on some of the pairs."""
        pairs = self.pairs.take(index)
        values = {site: own.take(index, pairs.clean.shape[1]) for site, own in self.values.items()}
        return Trials(pairs, self.runs_of, self.nodes, values)


def analyse(subject: Subject, seed: int = 0) -> Analysis:
    """Find the circuit on one half of the groups, and measure on the other what it is worth.

    Args:
        subject: of a behaviour that the model does.
        seed: of nodes drawn at random.
    """
    find, judge = (subject.trials(index) for index in subject.pairs.halves())
    attributed, active, means = attribution(find), find.active(), find.means()
    found = effects(find, attributed.nodes.mean(dim=0), active, seed)
    measured = Faithfulness(judge, means)
    carried = measured.of(torch.ones(judge.n_nodes, dtype=torch.bool))
    rows = [
        Finding("n_nodes", find.n_nodes, find.n_nodes),
        Finding("n_active", int(active.sum()), find.n_nodes),
        _of_share("carried", carried, len(judge.pairs)),
        *_error_shares(attributed, find),
        *_concordance(found),
        *_curves(measured, found, active, seed),
    ]
    claims, nodes, is_necessary = _minimal(find, measured, means, found, active, carried.value, seed)
    return Analysis(rows + claims, _nodes(find, found, nodes, is_necessary))


def _of_share(metric: str, share: Share, n: int, *, higher_is_better: bool | None = True) -> Finding:
    reason = None if share.value is not None else "m is the same with all nodes at their mean"
    return Finding(metric, share.value, n, higher_is_better, reason, share)


def _error_shares(found: Attribution, find: Trials) -> Iterator[Finding]:
    """The error's part in the effect of each site, as attributed."""
    for site, error in found.errors.items():
        share = Share(*(find.pairs.by_group(own).numpy() for own in (error, found.totals[site])))
        reason = None if share.value is not None else "the site has no effect"
        yield Finding("error_share", share.value, len(find.pairs), False, reason, share, site)


def _concordance(found: Effects) -> Iterator[Finding]:
    ccc, n = found.concordance, len(found.exact)
    yield Finding("attribution_exact_ccc", ccc, n, True, None if ccc is not None else "no node has an effect")
    bound, n = found.missed, len(found.others)
    yield Finding("missed_bound", bound, n, False, None if bound is not None else "all active nodes were patched")
    share = 1 - UNSEEN ** (1 / n) if n else None
    yield Finding("missed_share", share, n, False, None if n else "all active nodes were patched")


def _curves(measured: Faithfulness, found: Effects, active: Bool[Tensor, " n"], seed: int) -> Iterator[Finding]:
    n = len(measured.trials.pairs)
    curves = {"": measured.curve(found.order), "_random": measured.random_curve(active, seed)}
    for end, curve in curves.items():
        is_better = None if end else True
        for size in SIZES:
            yield _of_share(f"faithfulness_{size}{end}", curve[size], n, higher_is_better=is_better)
        yield _of_share(f"cpr{end}", cpr(curve), n, higher_is_better=is_better)
        area = cmd(curve)
        yield Finding(f"cmd{end}", area, n, None if end else False, None if area is not None else "F has no value")
    enough = nodes_for_level(curves[""])
    reason = None if enough else f"{SIZES[-1]} nodes don't reach {LEVEL}"
    yield Finding(f"nodes_for_{LEVEL}", enough, n, False, reason)


def _minimal(
    find: Trials,
    measured: Faithfulness,
    means: Mapping[str, Means],
    found: Effects,
    active: Bool[Tensor, " n"],
    carried: float | None,
    seed: int,
) -> tuple[list[Finding], list[int], list[bool]]:
    """The rows of the minimal circuit, its nodes, and which of them are necessary."""
    names, n = _MINIMAL, len(measured.trials.pairs)
    try:
        if carried is None or carried < MIN_CARRIED:
            raise Undefined(f"the latents carry {carried or 0.0:.2f} of the behaviour: no circuit is claimed")
        nodes = minimal(Faithfulness(find, means), found.supporting)
    except Undefined as undefined:
        return [Finding(name, None, n, reason=undefined.reason) for name in names], [], []
    rows = [
        Finding(names[0], len(nodes), n, False),
        _of_share(names[1], measured.of(nodes), n),
        _of_share(names[2], measured.without(nodes), n, higher_is_better=False),
    ]
    try:
        is_necessary = necessity(measured, nodes, active, seed)
    except Undefined as undefined:
        return [*rows, Finding(names[3], None, len(nodes), True, undefined.reason)], nodes, []
    return [*rows, Finding(names[3], float(np.mean(is_necessary)), len(nodes), True)], nodes, is_necessary


def _nodes(find: Trials, found: Effects, circuit: list[int], is_necessary: list[bool]) -> list[Node]:
    """All nodes that were patched, and those of the circuit."""
    places = [(site, latent) for site, own in find.nodes.items() for latent in range(own.n_latents)]
    necessary = dict(zip(circuit, is_necessary, strict=False))
    return [
        Node(*places[node], float(found.attributed[node]), exact, node in circuit, necessary.get(node))
        for node, exact in sorted(found.exact.items(), key=lambda own: own[1])
    ]
