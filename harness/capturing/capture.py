"""Capture of rows from texts: windows are run through a model in batches, and activations at the sites are kept.

Invariant: which windows share a chunk depends on the documents only, and which share a batch on the chunk and on
whether the model is on a card. So a capture that was interrupted and goes on on its kind of device gives the numbers of
one that was not. Rows of other batches, and of other devices, agree up to rounding: in float32 each within 7e-5 of its
norm, in other types within eps ** 0.6 of it.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from harness.capturing.chunks import batches
from harness.capturing.cutting import cut
from harness.capturing.halving import Halving
from harness.capturing.rows_in_memory import RowsInMemory, runs_on_card
from harness.contracts.corpus import Document
from harness.contracts.model import Capture, HasOwnRows, TextModel, Window, site_width
from harness.contracts.rows import bare_rows, make_rows
from harness.contracts.sites import parse_site
from harness.errors import ConfigError, PluginError

CHUNK_WINDOWS = 256

T = TypeVar("T")


Chunk: TypeAlias = Capture
"""The capture of a number of consecutive windows: what is stored, skipped and resumed as a whole."""


class ChunkPlace(NamedTuple):
    """The place of a chunk among those of the same documents."""

    number: int
    first_row: int
    """The number of rows before it."""


class PlacedWindow(NamedTuple):
    """A window, where it comes from, and which of its tokens become rows."""

    document: str
    number: int
    window: Window
    keep: Bool[np.ndarray, " t"]


def capture(
    model: TextModel,
    texts: Sequence[str],
    sites: Sequence[str],
    context: int = 128,
    special: bool = False,
    first: bool = False,
) -> Capture:
    """The activations of `model` on `texts`; `rows.document` is the index into `texts`.

    Args:
        model: made by `harness.create("model", ...)`.
        texts: documents, each cut into consecutive windows.
        sites: such as `["resid_post.6"]`.
        context: tokens in a window, all that the model sees counted.
        special: keep the rows of special tokens.
        first: keep the first row of each window.
    """
    # Looked through several times, which a generator gives only once.
    texts, sites = (given if isinstance(given, str) else list(given) for given in (texts, sites))
    if isinstance(texts, str) or not all(isinstance(text, str) for text in texts):
        raise ConfigError("capture: texts must be a list of strings; for a single text write [text].")
    documents = (Document(str(index), text) for index, text in enumerate(texts))
    chunks = list(read(model, documents, sites, context=context, special=special, first=first))
    if not chunks:
        return Capture({site: torch.empty(0, site_width(model, site)) for site in sites}, bare_rows(0))
    rows = pd.concat([chunk.rows for chunk in chunks], ignore_index=True).astype({"document": int})
    rows.attrs["tokenizer_hash"] = model.tokenizer_hash  # for `harness.fit`, which gets the rows and not the model
    return Capture({site: torch.cat([chunk.x[site] for chunk in chunks]) for site in sites}, rows)


def read(
    model: TextModel,
    documents: Iterable[Document],
    sites: Sequence[str],
    *,
    context: int = 128,
    special: bool = False,
    first: bool = False,
    skip_chunks: int = 0,
    chunk_windows: int = CHUNK_WINDOWS,
) -> Iterator[Chunk]:
    """The rows of `documents` in chunks of `chunk_windows` windows, in document order.

    The first `skip_chunks` chunks, captured earlier, are cut into windows but neither run nor returned. Rows that are
    not finite are kept: who uses them masks them.
    """
    wanted = read_wanted(
        model, documents, sites, lambda place: place.number >= skip_chunks, context, special, first, chunk_windows
    )
    return (chunk for _, chunk in wanted)


def read_wanted(
    model: TextModel,
    documents: Iterable[Document],
    sites: Sequence[str],
    is_wanted: Callable[[ChunkPlace], bool],
    context: int = 128,
    special: bool = False,
    first: bool = False,
    chunk_windows: int = CHUNK_WINDOWS,
    n_rows: int | None = None,
) -> Iterator[tuple[ChunkPlace, Chunk]]:
    """The chunks that are wanted, of those that `read` gives until there are `n_rows` rows, and their places.

    Each is asked for when its turn comes.
    """
    check_sites(model, sites)
    if context < 1:
        raise ConfigError(f"capture: context is {context}; give the number of tokens in a window, from 1 on.")
    chunks = _placed(_batched(place(model, documents, context, special, first), chunk_windows), n_rows)
    halving = Halving()
    return ((at, _run_chunk(model, chunk, sites, halving)) for at, chunk in chunks if is_wanted(at))


def _placed(
    chunks: Iterator[list[PlacedWindow]], n_rows: int | None
) -> Iterator[tuple[ChunkPlace, list[PlacedWindow]]]:
    """The chunks that begin before a number of rows, with their places; no more is cut than these."""
    number, first_row = 0, 0
    while (n_rows is None or first_row < n_rows) and (chunk := next(chunks, None)) is not None:
        yield ChunkPlace(number, first_row), chunk
        number, first_row = number + 1, first_row + sum(int(placed.keep.sum()) for placed in chunk)


def check_sites(model: TextModel, sites: Sequence[str]) -> None:
    """Raise a ConfigError that lists every site that the model has not got."""
    if isinstance(sites, str) or not sites:
        raise ConfigError(f"capture: sites is {sites!r}; give a list such as ['resid_post.0'].")
    if isinstance(model, HasOwnRows):
        raise ConfigError(
            "capture: this model has rows of its own and runs no texts. Call model.stored_capture(sites)."
        )
    beyond = [site for site in sites if parse_site(site).layer >= model.n_layers]
    if beyond:
        raise ConfigError(f"site {', '.join(beyond)}: this model has the layers 0 to {model.n_layers - 1}.")


def place(
    model: TextModel, documents: Iterable[Document], context: int, special: bool = False, first: bool = False
) -> Iterator[PlacedWindow]:
    """The windows of `documents`, in order, and which of their tokens become rows."""
    for document, windows in cut(model, documents, context):
        for number, window in enumerate(windows):
            _check(window)
            keep = np.ones(len(window.ids), dtype=bool) if special else ~np.asarray(window.special, dtype=bool)
            keep[0] &= first
            yield PlacedWindow(document.id, number, window, keep)


def _check(window: Window) -> None:
    n = {name: len(getattr(window, name)) for name in ("ids", "special", "start", "end")}
    if len(set(n.values())) > 1:
        raise PluginError(f"a window of the model has unequal numbers of {n}: each is to have one a token.")


def _run_chunk(model: TextModel, chunk: Sequence[PlacedWindow], sites: Sequence[str], halving: Halving) -> Chunk:
    """Run windows of similar length in one batch, so that little is padded; the rows come back in document order."""
    n_kept = np.array([np.count_nonzero(placed.keep) for placed in chunk])
    rows, firsts = RowsInMemory(int(n_kept.sum())), n_kept.cumsum() - n_kept

    def run(batch: Sequence[int]) -> tuple[Mapping[str, Tensor], Tensor, Tensor]:
        ids, mask, keep = _padded([chunk[index] for index in batch])
        kept = keep.flatten().nonzero().squeeze(1)
        own = n_kept[list(batch)]
        steps = np.arange(own.sum()) - np.repeat(own.cumsum() - own, own)
        places = torch.from_numpy(np.repeat(firsts[list(batch)], own) + steps)
        return _of_shape(model.activations(ids, mask, sites), ids), kept, places

    lengths = [len(placed.window.ids) for placed in chunk]
    for batch in batches(lengths, is_card=runs_on_card(model)):
        for _, found in halving.run(batch, run):
            rows.add(*found)
    return Capture(rows.take(), _make_rows(chunk))


def _of_shape(found: Mapping[str, Tensor], ids: Int[Tensor, "b t"]) -> Mapping[str, Tensor]:
    """Activations as a model gave them, a row for each token: else rows would be taken for those of others."""
    wrong = {site: tuple(x.shape) for site, x in found.items() if x.ndim != 3 or x.shape[:2] != ids.shape}
    if wrong:
        raise PluginError(f"the model's activations have the shapes {wrong} for windows of shape {tuple(ids.shape)}.")
    return found


def _padded(batch: Sequence[PlacedWindow]) -> tuple[Int[Tensor, "b t"], Bool[Tensor, "b t"], Bool[Tensor, "b t"]]:
    """(ids, mask, keep) of windows that are filled up on the right; the id of the padding does not matter."""
    lengths = np.array([len(placed.window.ids) for placed in batch])
    mask = np.arange(lengths.max()) < lengths[:, None]
    ids, keep = np.zeros(mask.shape, dtype=np.int64), np.zeros(mask.shape, dtype=bool)
    ids[mask] = _flat([placed.window.ids for placed in batch], np.int64)
    keep[mask] = np.concatenate([placed.keep for placed in batch])
    return torch.from_numpy(ids), torch.from_numpy(mask), torch.from_numpy(keep)


def _make_rows(windows: Sequence[PlacedWindow]) -> pd.DataFrame:
    kept, n_kept = np.concatenate([w.keep for w in windows]), [int(w.keep.sum()) for w in windows]
    columns: dict[str, Any] = {
        "document": list(itertools.chain.from_iterable([w.document] * n for w, n in zip(windows, n_kept, strict=True))),
        "window": np.repeat([w.number for w in windows], n_kept),
        "position": np.concatenate([np.flatnonzero(w.keep) for w in windows]),
        "special": _flat([w.window.special for w in windows], bool)[kept],
    }
    for name in ("start", "end"):
        places = _flat([getattr(w.window, name) for w in windows], np.float64)[kept]  # of None, NaN
        columns[name] = pd.arrays.IntegerArray(np.nan_to_num(places).astype(np.int64), np.isnan(places))
    return make_rows(columns)


def _flat(lists: Sequence[Sequence[Any]], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """One array of what is in all lists: made at once, since making many takes longer than all that is in them."""
    return np.array(list(itertools.chain.from_iterable(lists)), dtype=dtype)


def _batched(items: Iterable[T], size: int) -> Iterator[list[T]]:
    iterator = iter(items)
    while batch := list(itertools.islice(iterator, size)):
        yield batch
