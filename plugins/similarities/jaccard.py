"""Jaccard index of the atoms of two decompositions whose latents are rows of the data.

    J = |A ∩ B| / |A ∪ B|

A and B are sets of places in the text (Leask et al. 2025, arXiv 2505.17769, section 5), so nothing is compared but
what was chosen: the widths of the two models may differ. What names a place is the `key`:

    token: (document, window, position), or (document, position, end) where atoms come without their window. Only for
        equal tokenizers.
    end: (document, end): the character after the token. For any tokenizers; A and B are first restricted to the
        ends that occur in both candidate pools, since no other could have been chosen by both. A row without
        an end stands for no text and is in no pool.

What luck gives, and how large the two dictionaries are, is taken out of

    corrected = (J − E[J]) / (max J − E[J]),

the adjusted form of Hubert & Arabie 1985 ("Comparing partitions", Journal of Classification 2, eq. 5). With α and β
atoms of the two sides among the M candidates that they share, E[J] is exact, the mean over all ways to draw α and β of
the M, where |A ∩ B| is hypergeometric; and max J has the smaller side inside the larger, |A ∩ B| = min(α, β). So atoms
drawn at random have 0 on average, whatever the sizes, and as much in common as sizes allow is 1. Undefined where all
draws have the same J, as where a side has no candidate or all of them. `chance`, the J of E|A ∩ B|, lies a little below
E[J], since J is convex in |A ∩ B|.

Candidates are the rows that a fit saw before it was full: no later one could become an atom. Where sites are joined
whose fits were full after different numbers of rows, a row that all of them saw is more likely an atom of the union
than one that few did. So luck draws from each pool, of candidates at the same sites, as many as became atoms there, and
|A ∩ B| is a sum of hypergeometric numbers, one for each pair of pools that share candidates.

Within a pool all draws count as equally likely. A growing dictionary takes more of the first rows than of later ones,
and the streams of two models begin alike: what exceeds chance is a choice in common only so far as it also exceeds
what a control has, such as an untrained model.
"""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

import harness
from harness.plugins.similarities import JaccardConfig


@dataclass(frozen=True)
class _Counts:
    """Numbers of distinct places: of each side's atoms, of both, and of both by luck (None without candidates)."""

    a: int
    b: int
    both: int
    both_by_luck: float | None
    shared: list[tuple[int, int, int]] | None
    """Numbers of shared candidates, and of those of them that each side chose; for each pair of pools (None as above).
    """


class Jaccard:
    """`s(a, b)` is the index; `s.chance(a, b)`, `s.overlap(a, b)` and `s.corrected(a, b)` help to read it."""

    higher_is_more_similar = True
    range = (0.0, 1.0)
    symmetric = True
    # It sees places and no vectors: what it is invariant to is up to the method that chose the atoms.
    invariant_to: frozenset[str] = frozenset()
    streams = False

    def __init__(self, config: JaccardConfig) -> None:
        self.key = config.key

    def __call__(self, a: harness.Decomposition, b: harness.Decomposition) -> float:
        counts = self._count(a, b)
        return counts.both / (counts.a + counts.b - counts.both)

    def overlap(self, a: harness.Decomposition, b: harness.Decomposition) -> float:
        """|A ∩ B| / min(|A|, |B|): unlike J it can reach 1 where the dictionaries differ in size."""
        counts = self._count(a, b)
        if min(counts.a, counts.b) == 0:
            raise harness.Undefined("one side has no atom among the shared candidates")
        return counts.both / min(counts.a, counts.b)

    def chance(self, a: harness.Decomposition, b: harness.Decomposition) -> float:
        """J with E|A ∩ B| for |A ∩ B|, where A and B are drawn at random from their own candidates.

        E|A ∩ B| = |A| |B| M / (M_a M_b), M of the M_a and M_b candidates being shared: |A| |B| / M if all are, and
        |A| |B| / M_b if b's hold all of a's. With key `end` A and B are those at shared ends, and all are.
        """
        counts = self._count(a, b)
        if counts.both_by_luck is None:
            raise harness.ConfigError("jaccard: chance needs the candidates of both sides, which harness.fit records.")
        return counts.both_by_luck / (counts.a + counts.b - counts.both_by_luck)

    def corrected(self, a: harness.Decomposition, b: harness.Decomposition) -> float:
        """(J − E[J]) / (max J − E[J]): 0 on average for atoms drawn at random, 1 for as much in common as can be."""
        counts = self._count(a, b)
        if counts.shared is None:
            raise harness.ConfigError(
                "jaccard: corrected needs the candidates of both sides, which harness.fit records."
            )
        least, chances = _in_common_by_luck(counts.shared)
        if len(chances) == 1:
            m, in_a, in_b = map(sum, zip(*counts.shared, strict=True))
            raise harness.Undefined(
                f"of {m} shared candidates one side has {in_a} as atoms and the other {in_b}: whatever they are, as "
                "many are in common"
            )
        both = torch.arange(least, least + len(chances), dtype=torch.float64)
        indices = both / (counts.a + counts.b - both)
        expected = float(chances @ indices)
        value = counts.both / (counts.a + counts.b - counts.both)
        return (value - expected) / (float(indices[-1]) - expected)

    def _count(self, a: harness.Decomposition, b: harness.Decomposition) -> _Counts:
        count = _count_ends if self.key == "end" else _count_tokens
        counts = count(a, b, _atoms(a, b))
        if counts.a + counts.b == 0:
            raise harness.Undefined("neither side has an atom among the candidates that can be compared")
        return counts


def _in_common_by_luck(pools: list[tuple[int, int, int]]) -> tuple[int, Float[Tensor, " n"]]:
    """The least number of atoms in common, and the chance of this number and of each larger one that can be.

    A sum of hypergeometric numbers: of m candidates, one side draws in_a and the other in_b.
    """
    least, parts = 0, []
    for m, in_a, in_b in pools:
        own_least = max(0, in_a + in_b - m)
        both = torch.arange(own_least, min(in_a, in_b) + 1, dtype=torch.float64)
        counted = (both, in_a - both, in_b - both, m - in_a - in_b + both)
        log_ways = -sum((torch.lgamma(count + 1) for count in counted), torch.zeros_like(both))
        least += own_least
        parts.append(torch.softmax(log_ways, dim=0))
    if len(parts) == 1:
        return least, parts[0]
    n = sum(map(len, parts)) - len(parts) + 1
    spectrum = torch.stack([torch.fft.rfft(part, n) for part in parts]).prod(dim=0)
    return least, torch.fft.irfft(spectrum, n)


def _atoms(a: harness.Decomposition, b: harness.Decomposition) -> list[pd.DataFrame]:
    """The atoms of both sides; refuses a side that has none."""
    tables = []
    for side, decomposition in (("a", a), ("b", b)):
        if decomposition.atoms is None:
            raise harness.ConfigError(
                f"jaccard: {side} ({type(decomposition).__name__}) has no atoms; compare methods whose latents "
                "are rows of the data, such as those that `harness list method` shows to provide atoms."
            )
        tables.append(decomposition.atoms)
    return tables


def _count_tokens(a: harness.Decomposition, b: harness.Decomposition, atoms: list[pd.DataFrame]) -> _Counts:
    if None not in (a.tokenizer_hash, b.tokenizer_hash) and a.tokenizer_hash != b.tokenizer_hash:
        raise harness.ConfigError(
            "jaccard: a and b come from different tokenizers, so their positions do not name the same tokens. "
            "Use key='end'."
        )
    columns = _token_columns([*atoms, a.candidates, b.candidates])
    atoms_a, atoms_b = (_places(own, columns) for own in atoms)
    n_a, n_b, n_both = len(atoms_a), len(atoms_b), len(atoms_a.intersection(atoms_b))
    if a.candidates is None or b.candidates is None:
        return _Counts(n_a, n_b, n_both, None, None)
    side_a, side_b = _candidates(a.candidates, atoms_a, columns), _candidates(b.candidates, atoms_b, columns)
    shared = _shared(side_a, side_b)
    if shared.empty:
        raise harness.Undefined("no token was a candidate on both sides")
    by_luck = shared["m"]
    for level, side in (("pool_a", side_a), ("pool_b", side_b)):
        by_luck = by_luck.mul(side.groupby("pool")["is_atom"].mean().rename_axis(level), level=level)
    return _Counts(n_a, n_b, n_both, float(by_luck.sum()), _numbers(shared))


def _count_ends(a: harness.Decomposition, b: harness.Decomposition, atoms: list[pd.DataFrame]) -> _Counts:
    sides = []
    for side, decomposition, own in zip("ab", (a, b), atoms, strict=True):
        if decomposition.candidates is None:
            raise harness.ConfigError(f"jaccard: key='end' needs the candidates of {side}, which harness.fit records.")
        columns = ["document", "end"]
        sides.append(_candidates(decomposition.candidates, _places(own, columns), columns))
        if sides[-1].empty:
            raise harness.ConfigError(
                f"jaccard: the candidates of {side} have no ends in the text (bare tensors and slow tokenizers give "
                "none). Use key='token'."
            )
    shared = _shared(*sides)
    if shared.empty:
        raise harness.Undefined("no end of a token was a candidate on both sides")
    n_a, n_b, n_both = (int(shared[name].sum()) for name in ("in_a", "in_b", "both"))
    numbers = _numbers(shared)
    return _Counts(n_a, n_b, n_both, sum(in_a * in_b / m for m, in_a, in_b in numbers), numbers)


def _token_columns(tables: list[pd.DataFrame | None]) -> list[str]:
    """Columns that name a token: a position counts from the start of its window, of which a document may have many.

    Atoms need not come with their window; the end in the text tells windows apart as well.
    """
    given = [table for table in tables if table is not None]
    if all("window" in table for table in given):
        return ["document", "window", "position"]
    if all(table["end"].notna().all() for table in given):
        return ["document", "position", "end"]
    if any(table.duplicated(["document", "position"]).any() for table in given):
        raise harness.Undefined(
            "documents have several windows, whose positions neither a column 'window' in every table of atoms nor "
            "ends in the text tell apart"
        )
    return ["document", "position"]


def _places(rows: pd.DataFrame, columns: list[str]) -> pd.MultiIndex:
    return pd.MultiIndex.from_frame(rows[columns].dropna().drop_duplicates())


def _candidates(rows: pd.DataFrame, atoms: pd.MultiIndex, columns: list[str]) -> pd.DataFrame:
    """The distinct places of candidates, each with its pool (0 where a side has but one), and whether it is an atom."""
    named = rows.assign(pool=rows.get("pool", 0)).dropna(subset=columns).drop_duplicates(columns)
    places = pd.MultiIndex.from_frame(named[columns])
    return pd.DataFrame({"pool": named["pool"].to_numpy(), "is_atom": places.isin(atoms)}, index=places)


def _shared(a: pd.DataFrame, b: pd.DataFrame) -> pd.DataFrame:
    """Counts by pools of the two sides: of shared candidates (m), those each chose (in_a, in_b), and those both did."""
    places = a.index.intersection(b.index)
    of_a, of_b = a.iloc[a.index.get_indexer(places)], b.iloc[b.index.get_indexer(places)]
    in_a, in_b = of_a["is_atom"].to_numpy(), of_b["is_atom"].to_numpy()
    counted = pd.DataFrame({"m": 1, "in_a": in_a, "in_b": in_b, "both": in_a & in_b}, index=range(len(places)))
    pools = {"pool_a": of_a["pool"].to_numpy(), "pool_b": of_b["pool"].to_numpy()}
    return counted.assign(**pools).groupby(list(pools)).sum()


def _numbers(shared: pd.DataFrame) -> list[tuple[int, int, int]]:
    return list(shared[["m", "in_a", "in_b"]].astype(int).itertuples(index=False, name=None))
