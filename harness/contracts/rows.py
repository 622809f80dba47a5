"""The identity of activation rows: a DataFrame with one line per row, and its form as tensors on disk.

Its columns: `document`, the stable id in a corpus, or an index into texts that have none; `window`, the number of the
window in the document, and `position`, that of the token in the window, both from 0 on; `start` and `end`, the first
character of the token in the document and the one after its last, NA where the tokenizer gives none; `special`, True
for tokens that are no text.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from torch import Tensor

COLUMNS = ("document", "window", "position", "start", "end", "special")
_OFFSETS = ("start", "end")
_NO_OFFSET = -1


def make_rows(columns: Mapping[str, Any]) -> pd.DataFrame:
    """A rows table with the right column types; `columns` may leave out `start`, `end` and `special`."""
    n = len(columns["document"])
    table = {name: columns.get(name) for name in COLUMNS}
    table["special"] = np.zeros(n, dtype=bool) if table["special"] is None else np.asarray(table["special"], bool)
    for name in _OFFSETS:
        offsets: Any = [None] * n if table[name] is None else table[name]
        table[name] = pd.array(offsets, dtype="Int64")
    for name in ("window", "position"):
        table[name] = np.asarray(table[name], dtype=np.int64)
    return pd.DataFrame(table)


def bare_rows(n: int) -> pd.DataFrame:
    """Rows of a tensor that came without identity: row i is position i of document 0."""
    zeros = np.zeros(n, dtype=np.int64)
    return make_rows({"document": zeros, "window": zeros, "position": np.arange(n)})


def hash_rows(rows: pd.DataFrame) -> npt.NDArray[np.uint64]:
    """A hash of the identity of each row: its document, window and position."""
    hashes = pd.util.hash_pandas_object(rows[["document", "window", "position"]], index=False)
    return np.asarray(hashes, dtype=np.uint64)


def rows_to_tensors(rows: pd.DataFrame, prefix: str = "rows.") -> tuple[dict[str, Tensor], list[Any]]:
    """Tensors for a safetensors file, and the distinct documents for the JSON beside it."""
    codes, documents = pd.factorize(rows["document"])
    tensors = {prefix + "document": torch.from_numpy(codes.astype(np.int32))}
    for name in rows.columns:
        if name == "special":
            tensors[prefix + name] = torch.from_numpy(rows[name].to_numpy(dtype=bool).copy())
        elif name != "document":
            values = rows[name].fillna(_NO_OFFSET) if name in _OFFSETS else rows[name]
            tensors[prefix + name] = torch.from_numpy(values.to_numpy(dtype=np.int32).copy())
    return tensors, [document.item() if isinstance(document, np.generic) else document for document in documents]


def rows_from_tensors(tensors: Mapping[str, Tensor], documents: list[Any], prefix: str = "rows.") -> pd.DataFrame:
    """The table that `rows_to_tensors` took, with the columns it had, in the usual order."""
    columns: dict[str, Any] = {}
    for name in COLUMNS:
        if prefix + name not in tensors:
            continue
        values = tensors[prefix + name].numpy()
        if name == "document":
            columns[name] = pd.Series(documents, dtype=object).to_numpy()[values]
            if documents and isinstance(documents[0], int):
                columns[name] = columns[name].astype(np.int64)
        elif name in _OFFSETS:
            columns[name] = pd.arrays.IntegerArray(values.astype(np.int64), values == _NO_OFFSET)
        elif name == "special":
            columns[name] = values
        else:
            columns[name] = values.astype(np.int64)
    return pd.DataFrame(columns)
