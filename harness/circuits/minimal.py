"""A minimal circuit: nodes of which none can be taken away, found on some groups and tested on others.

Backward elimination: from the first nodes of the order of exact effects that are faithful within `TOLERANCE`, the
weakest are taken away one by one as long as |1 − F| stays within it, or falls. A node is necessary if taking it away
changes m by more than adding any of 19 random active nodes does (Shi et al. 2410.13032), each node at a level of 5 %.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool
from torch import Tensor

from harness.circuits.faithfulness import Faithfulness
from harness.circuits.limits import LEVEL, SIZES
from harness.errors import Undefined

TOLERANCE = 0.1
"""Distance of F from 1 within which a circuit is faithful."""
N_NULL = 19
"""Random nodes that necessity is measured against: one like them is above all of them in 5 % of cases."""


def minimal(found_on: Faithfulness, order: Sequence[int]) -> list[int]:
    """The nodes of a minimal circuit.

    Args:
        found_on: the pairs that it is found on.
        order: candidates, the strongest first.

    Raises:
        Undefined: no set of the strongest nodes is faithful enough to begin with.
    """
    nodes, faithful = _beginning(found_on, order)
    for node in reversed(list(nodes)):
        rest = [other for other in nodes if other != node]
        left = _value(found_on, rest)
        if rest and abs(1 - left) <= max(TOLERANCE, abs(1 - faithful)):
            nodes, faithful = rest, left
    return nodes


def _beginning(found_on: Faithfulness, order: Sequence[int]) -> tuple[list[int], float]:
    """The smallest faithful set of the first nodes; where none is, that with F nearest to 1."""
    tried = []
    for size in sorted({*(size for size in SIZES if size < len(order)), len(order)}):
        nodes = list(order[:size])
        tried.append((nodes, _value(found_on, nodes)))
        if abs(1 - tried[-1][1]) <= TOLERANCE:
            return tried[-1]
    nodes, faithful = min(tried, key=lambda own: abs(1 - own[1]))
    if faithful < LEVEL:
        n = f"{len(order)} strongest nodes that it rests on reach" if order else "none of its nodes reaches"
        raise Undefined(f"the {n} a faithfulness of {faithful:.2f}")
    return nodes, faithful


def necessity(judge: Faithfulness, nodes: Sequence[int], active: Bool[Tensor, " n"], seed: int) -> list[bool]:
    """The answer for each node of a circuit whether it is necessary, on the pairs that judge it.

    Raises:
        Undefined: fewer active nodes are left to draw from than the test needs.
    """
    pool = active.clone()
    pool[list(nodes)] = False
    rest = pool.nonzero()[:, 0]
    if len(rest) < N_NULL:
        raise Undefined(f"{len(rest)} active nodes are outside of the circuit; the test draws {N_NULL}")
    drawn = rest[torch.randperm(len(rest), generator=torch.Generator().manual_seed(seed))[:N_NULL]].tolist()
    whole = _value(judge, nodes)
    null = [abs(_value(judge, [*nodes, node]) - whole) for node in drawn]
    own = [abs(_value(judge, [other for other in nodes if other != node]) - whole) for node in nodes]
    return [change > max(null) for change in own]


def _value(found_on: Faithfulness, nodes: Sequence[int]) -> float:
    share = found_on.of(nodes).value
    if share is None:
        raise Undefined("the model has nothing to lose: m is the same with all nodes at their mean")
    return share
