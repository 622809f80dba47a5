"""Several sites as one side: the union of their atoms, counted by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

import harness
from harness.comparing.joined import JoinedAtoms


class _Chosen(harness.Decomposition):
    """Atoms at these positions of document 0, of candidates 0 to n."""

    def __init__(self, positions: list[int], n: int, window: bool = True) -> None:
        self.atoms = _places(positions, window)
        self.candidates = _places(list(range(n)))
        self.tokenizer_hash = "t"
        self.n_latents = len(positions)

    def encode(self, x: torch.Tensor) -> harness.Codes:
        return harness.Codes(x)

    def decode(self, codes: harness.Codes) -> torch.Tensor:
        return codes.values


def _places(positions: list[int], window: bool = True) -> pd.DataFrame:
    ends = pd.array([3 * position + 3 for position in positions], dtype="Int64")
    return pd.DataFrame({"document": 0, **({"window": 0} if window else {}), "position": positions, "end": ends})


@pytest.mark.parametrize("window", [True, False])
@pytest.mark.parametrize("key", ["token", "end"])
def test_the_union_of_atoms_forgets_the_sites(key: str, window: bool) -> None:
    a = JoinedAtoms([_Chosen([0, 1, 2], 10, window), _Chosen([2, 3], 20, window)])
    b = JoinedAtoms([_Chosen([3, 4], 20, window), _Chosen([0, 3, 9], 10, window)])
    jaccard = harness.create("similarity", "jaccard", key=key)
    assert jaccard(a, b) == 2 / 6  # {0, 1, 2, 3} and {0, 3, 4, 9}
    assert jaccard.overlap(a, b) == 2 / 4
    by_luck = 4 * 4 / 10  # all atoms are among the 10 candidates of both sites
    assert jaccard.chance(a, b) == pytest.approx(by_luck / (8 - by_luck))
    assert a.n_latents == 4 and a.n_candidates == 20 and a.tokenizer_hash == "t"
    assert a.candidates["pool"].nunique() == 2 and a.candidates.groupby("pool").size().tolist() == [10, 10]
    assert jaccard(JoinedAtoms([_Chosen([0, 1], 10)]), JoinedAtoms([_Chosen([1, 2], 10)])) == 1 / 3


@pytest.mark.parametrize("key", ["token", "end"])
def test_sites_that_were_full_at_different_rows_share_by_luck_what_a_simulation_does(key: str) -> None:
    """Sites draw 30 of the first 60 rows and 20 of all 300, on both sides; as one pool they would share 7, not 22."""
    generator = np.random.default_rng(0)

    def drawn() -> JoinedAtoms:
        few, many = (generator.choice(n, m, replace=False).tolist() for n, m in ((60, 30), (300, 20)))
        return JoinedAtoms([_Chosen(few, 60), _Chosen(many, 300)])

    jaccard = harness.create("similarity", "jaccard", key=key)
    pairs = [(drawn(), drawn()) for _ in range(30)]
    values = np.array([[form(*pair) for form in (jaccard, jaccard.chance, jaccard.corrected)] for pair in pairs])
    index, chance, corrected = values.mean(axis=0)
    assert chance == pytest.approx(index, abs=0.015) and index > 0.2
    assert corrected == pytest.approx(0, abs=0.02)
    one_pool = [(len(a.atoms) * len(b.atoms) / 300, len(a.atoms) + len(b.atoms)) for a, b in pairs]
    assert np.mean([both / (sizes - both) for both, sizes in one_pool]) < 0.1


def test_what_one_site_lacks_the_union_lacks() -> None:
    without = _Chosen([1], 10)
    without.candidates = None
    joined = JoinedAtoms([_Chosen([0], 10), without])
    assert joined.candidates is None and len(joined.atoms) == 2
    with pytest.raises(harness.HarnessError, match="no vectors of one space"):
        joined.encode(torch.zeros(1, 2))
    with pytest.raises(harness.HarnessError, match="no vectors of one space"):
        joined.decode(harness.Codes(torch.zeros(1, 2)))
