"""Capture of rows from texts: windows are run through a model in batches, and activations at the sites are kept.

Invariant: which windows share a chunk and a batch depends on the documents only, so a capture that was interrupted
and resumed gives the numbers of one that was not.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from harness.capturing.chunks import BATCH_WINDOWS
from harness.contracts.corpus import Document
from harness.contracts.model import Capture, HasOwnRows, TextModel, Window
from harness.contracts.rows import bare_rows, make_rows
from harness.contracts.sites import parse_site
from harness.errors import ConfigError, PluginError

CHUNK_WINDOWS = 256
LONG_TEXT = 1 << 16
"""Characters of a text above which it is cut into tokens as far as its windows are asked for."""
_DOCUMENTS_TOKENISED_TOGETHER = 64

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
        return Capture({site: torch.empty(0, model.width) for site in sites}, bare_rows(0))
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
    return ((at, _run_chunk(model, chunk, sites)) for at, chunk in chunks if is_wanted(at))


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
    for group in _grouped(documents):
        if len(group[0].text) > LONG_TEXT:
            windows_of: Sequence[Iterable[Window]] = [_cut_long(model, group[0], context)]
        else:
            windows_of = model.windows([document.text for document in group], context)
        for document, windows in zip(group, windows_of, strict=True):
            for number, window in enumerate(windows):
                _check(window)
                keep = np.ones(len(window.ids), dtype=bool) if special else ~np.asarray(window.special, dtype=bool)
                keep[0] &= first
                yield PlacedWindow(document.id, number, window, keep)


def _check(window: Window) -> None:
    n = {name: len(getattr(window, name)) for name in ("ids", "special", "start", "end")}
    if len(set(n.values())) > 1:
        raise PluginError(f"a window of the model has unequal numbers of {n}: each is to have one a token.")


def _grouped(documents: Iterable[Document]) -> Iterator[list[Document]]:
    """Documents that are cut into tokens together, of about a long text's size in all; a long one is alone."""
    group: list[Document] = []
    for document in documents:
        n_characters = sum(len(other.text) for other in group) + len(document.text)
        if group and (n_characters > LONG_TEXT or len(group) == _DOCUMENTS_TOKENISED_TOGETHER):
            yield group
            group = []
        group.append(document)
    if group:
        yield group


def _cut_long(model: TextModel, document: Document, context: int) -> Iterator[Window]:
    """The windows of a long text, of which ever longer beginnings are cut: what is not asked for costs nothing.

    Tokens depend on the text after them only for some characters, so all but the last windows of a beginning are the
    whole text's.
    """
    last: Window | None = None
    n_given, n_characters = 0, LONG_TEXT
    while True:
        windows = model.windows([document.text[:n_characters]], context)[0]
        is_whole = n_characters >= len(document.text)
        settled = windows[n_given : None if is_whole else len(windows) * 3 // 4]
        if last is not None and windows[n_given - 1] != last:
            raise ConfigError(
                f"document {document.id}: the model's tokenizer cuts the first {n_characters} characters otherwise "
                "than fewer of them. Split the document."
            )
        yield from settled
        if is_whole:
            return
        if settled:
            last, n_given = settled[-1], n_given + len(settled)
        n_characters *= 4


def _run_chunk(model: TextModel, chunk: Sequence[PlacedWindow], sites: Sequence[str]) -> Chunk:
    """Run windows of similar length in one batch, so that little is padded; the rows come back in document order."""
    rows_of: dict[str, list[Tensor]] = {site: [torch.empty(0)] * len(chunk) for site in sites}
    by_length = sorted(range(len(chunk)), key=lambda index: len(chunk[index].window.ids))
    for batch in _batched(by_length, BATCH_WINDOWS):
        ids, mask, keep = _padded([chunk[index] for index in batch])
        n_kept = keep.sum(dim=1).tolist()
        for site, x in model.activations(ids, mask, sites).items():
            for index, rows in zip(batch, torch.split(x[keep.to(x.device)].cpu(), n_kept), strict=True):
                rows_of[site][index] = rows
    return Capture({site: torch.cat(rows) for site, rows in rows_of.items()}, _make_rows(chunk))


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
