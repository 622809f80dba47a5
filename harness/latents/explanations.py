"""Explanations by one explainer of a decomposition's sampled latents: the content of an `explanation` artefact."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

from harness.contracts.latent import Latent
from harness.errors import Undefined
from harness.files import write_json
from harness.planning.plan import Plan
from harness.storage.store import Store, read_checked

_FILE = "explanations.json"


@dataclass(frozen=True)
class Explanation:
    """An explainer's text about one pole of a latent, or the reason why there is none."""

    index: int
    sign: int
    text: str | None
    reason: str | None = None


Explanations: TypeAlias = Mapping[tuple[int, int], Explanation]
"""The explanation of each pole, by index and sign."""


def write_explanations(folder: Path, explanations: list[Explanation]) -> None:
    """Write explanations into the folder of an artefact that is being made."""
    write_json(folder / _FILE, [asdict(explanation) for explanation in explanations])


def read_explanations(store: Store, key: str) -> Explanations:
    """Read the explanations of an `explanation` cell.

    Raises:
        StoreError: they are missing or damaged.
    """
    found = [Explanation(**item) for item in json.loads(read_checked(store, "explanation", key, _FILE))]
    return {(explanation.index, explanation.sign): explanation for explanation in found}


def of_latents(plan: Plan, store: Store, latents: str) -> dict[tuple[int, int], list[dict[str, Any]]]:
    """The explanations of a `latents` cell that are in the store, of all explainers, as JSON, by index and sign."""
    found: dict[tuple[int, int], list[dict[str, Any]]] = defaultdict(list)
    for cell in plan.of_latents("explanation", latents):
        if store.artefact("explanation", cell.key).exists() and store.end(cell.key) is not None:
            for pole, own in read_explanations(store, cell.key).items():
                found[pole].append({"explainer": cell.columns["explainer"], "text": own.text, "reason": own.reason})
    return dict(found)


def explained(latent: Latent, explanations: Explanations) -> Latent:
    """The latent with its explanation, and its other latent, if there is one, with that one's.

    Raises:
        Undefined: the latent has no explanation.
    """
    own = explanations[latent.index, latent.sign]
    if own.text is None:
        raise Undefined(f"no explanation: {own.reason}")
    other = latent.other and replace(latent.other, explanation=explanations[latent.other.index, latent.other.sign].text)
    return replace(latent, explanation=own.text, other=other)
