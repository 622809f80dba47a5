"""Rows with the texts of their tokens, and rows of texts that were not captured before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import torch

from harness.capturing.capture import capture
from harness.capturing.masking import kept
from harness.contracts.evaluation import TextRows
from harness.contracts.model import TextModel
from harness.errors import Undefined
from harness.storage.activation_store import row_norms


def token_texts(rows: pd.DataFrame, texts: Mapping[str, str]) -> list[str]:
    """The text of the token of each row; `texts` holds the documents by id.

    Raises:
        Undefined: the tokenizer does not say where in the text its tokens are.
    """
    if rows["end"].isna().any():
        raise Undefined("its tokenizer gives no character offsets, so tokens have no texts")
    places = zip(rows["document"].astype(str), rows["start"].tolist(), rows["end"].tolist(), strict=True)
    return [texts[document][start:end] for document, start, end in places]


def read_text_rows(
    model: TextModel, texts: Sequence[str], site: str, context: int, max_norm: float, device: torch.device
) -> TextRows:
    """The rows of texts that are finite and have no norm above the largest one."""
    captured = capture(model, texts, [site], context=context)
    chosen = kept(row_norms(captured.x[site]), max_norm).cpu()
    rows = captured.rows[chosen.numpy()]
    tokens = token_texts(rows, {str(number): text for number, text in enumerate(texts)})
    documents = torch.from_numpy(rows["document"].to_numpy().astype(np.int64))
    return TextRows(captured.x[site][chosen].to(device, torch.float32), documents, tokens)
