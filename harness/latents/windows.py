"""Texts cut into windows of a few tokens, in which people and scorers are shown latents.

A window is a stretch of the rows of one capture window: those whose positions share position // WINDOW_TOKENS. Rows
that the capture left out (special tokens, the first of each capture window) are not among its tokens; their text
belongs to the token after them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Bool, Int

from harness.contracts.latent import LatentWindow
from harness.errors import Undefined
from harness.latents.activations import LatentActivations, Pole

WINDOW_TOKENS = 32
MIN_TOKENS = 8
"""Fewest tokens of a window; shorter ones say little and are left out."""


@dataclass(frozen=True)
class Windows:
    """The windows of some rows, in order."""

    tokens: Sequence[str]
    """The text of every row, also of those in no window."""
    document_of_row: Sequence[str]
    window_of_row: Int[np.ndarray, " n"]
    """The number of the window that each row lies in; -1 for none."""
    first_rows: Int[np.ndarray, " w"]
    ends: Int[np.ndarray, " w"]
    """The rows of window i are first_rows[i] to before ends[i]."""
    is_explain: Bool[np.ndarray, " w"]
    """True for windows that explain latents; the others test explanations. No document is in both halves."""

    def __len__(self) -> int:
        return len(self.first_rows)

    def show(self, number: int, pole: Pole, is_active: bool, sample: str) -> LatentWindow:
        """A window with the pole's activation on each of its tokens."""
        first, end = int(self.first_rows[number]), int(self.ends[number])
        activations = np.zeros(end - first)
        low, high = np.searchsorted(pole.rows, [first, end])
        activations[pole.rows[low:high] - first] = pole.values[low:high]
        tokens = tuple(self.tokens[first:end])
        return LatentWindow(self.document_of_row[first], tokens, tuple(activations.tolist()), is_active, sample)


def cut(rows: pd.DataFrame, texts: Mapping[str, str]) -> Windows:
    """The windows of captured rows; `texts` holds the documents by id.

    Raises:
        Undefined: the tokenizer gives no character offsets, so that no token has a text.
    """
    if rows["end"].isna().any():
        raise Undefined("its tokenizer gives no character offsets, so latents can't be shown in their texts")
    documents = rows["document"].astype(str)
    keys = pd.DataFrame({"d": documents, "w": rows["window"], "p": rows["position"] // WINDOW_TOKENS})
    is_first = (keys != keys.shift()).any(axis=1).to_numpy()
    first_rows = np.flatnonzero(is_first)
    ends = np.append(first_rows[1:], len(rows))
    long_enough = ends - first_rows >= MIN_TOKENS
    numbers = np.where(long_enough, long_enough.cumsum() - 1, -1)
    names = documents.tolist()
    first_rows, window_of_row = first_rows[long_enough], np.repeat(numbers, ends - first_rows)
    return Windows(
        tokens=_tokens(rows, names, texts, is_first),
        document_of_row=names,
        window_of_row=window_of_row,
        first_rows=first_rows,
        ends=ends[long_enough],
        is_explain=np.array([explains(names[first]) for first in first_rows], dtype=bool),
    )


def explains(document: str) -> bool:
    """True for a document whose windows explain latents. Its id alone decides, so that the halves never mix."""
    return hashlib.blake2b(f"explain/{document}".encode(), digest_size=1).digest()[0] < 128


def _tokens(
    rows: pd.DataFrame, documents: Sequence[str], texts: Mapping[str, str], is_first: Bool[np.ndarray, " n"]
) -> list[str]:
    """The text of every row, from the end of the row before to its own end: the tokens of a window add up to its text.

    The first of a window includes the space before it, as the others do: a word is one token wherever the cut falls.
    """
    tokens: list[str] = []
    reached = 0
    places = zip(documents, rows["start"].tolist(), rows["end"].tolist(), is_first.tolist(), strict=True)
    for document, start, end, first in places:
        text = texts[document]
        if first:
            has_own_space = text.startswith(" ", start)
            reached = start - (not has_own_space and start > 0 and text[start - 1] == " ")
        tokens.append(text[reached:end])
        reached = max(reached, end)  # tokens that share one character end where it does
    return tokens


@dataclass(frozen=True)
class PoleWindows:
    """The windows of one half where a pole is active, by falling peak, and those where it is silent throughout."""

    active: Int[np.ndarray, " a"]
    silent: Int[np.ndarray, " s"]


def pole_windows(windows: Windows, pole: Pole, explain: bool) -> PoleWindows:
    """The active and silent windows of a pole in one half; those where it is neither are left out."""
    number = windows.window_of_row[pole.rows]
    peak = np.zeros(len(windows))
    np.maximum.at(peak, number[number >= 0], pole.values[number >= 0])
    of_half = np.flatnonzero(windows.is_explain == explain)
    active = of_half[peak[of_half] > pole.threshold]
    return PoleWindows(active[np.argsort(-peak[active], kind="stable")], of_half[peak[of_half] == 0])


@dataclass(frozen=True)
class WindowCounts:
    """Numbers of windows in one half: a row for each latent, a column for each of its poles."""

    active: Int[np.ndarray, "m 2"]
    heard: Int[np.ndarray, "m 2"]
    """Windows that are not silent: active ones, and those where the pole is neither."""
    silent: Int[np.ndarray, "m 2"]


def count_windows(windows: Windows, activations: LatentActivations, explain: bool) -> WindowCounts:
    """Count the `pole_windows` of all poles at once."""
    number = windows.window_of_row[activations.rows.numpy()]
    values, latents = activations.values.numpy(), activations.latents.numpy()
    column = (values < 0).astype(np.int64)  # as in POLES
    is_active = np.abs(values) > activations.thresholds.numpy()[latents, column]
    in_half = (number >= 0) & (windows.is_explain == explain)[number] if len(windows) else number >= 0
    pole = 2 * latents + column

    def n_windows(chosen: Bool[np.ndarray, " e"]) -> Int[np.ndarray, "m 2"]:
        pairs = np.unique(pole[chosen] * max(len(windows), 1) + number[chosen]) // max(len(windows), 1)
        return np.bincount(pairs, minlength=2 * activations.n_latents).reshape(-1, 2)

    n_half, heard = int((windows.is_explain == explain).sum()), n_windows(in_half)
    return WindowCounts(n_windows(in_half & is_active), heard, n_half - heard)
