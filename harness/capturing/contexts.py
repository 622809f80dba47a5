"""Evaluation contexts made from tensors or texts: for use from Python, without a suite."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from harness.capturing.activations import TensorActivations
from harness.capturing.capture import capture
from harness.capturing.masking import kept, typical_norm
from harness.capturing.replays import Replays, number_documents
from harness.capturing.text_rows import read_text_rows, token_texts
from harness.contracts.corpus import Document
from harness.contracts.evaluation import EvaluationContext
from harness.contracts.model import TextModel, Truth
from harness.errors import ConfigError
from harness.storage.activation_store import row_norms


def context_of(
    x: Float[Tensor, "n d"],
    masked: Bool[Tensor, " n"] | None = None,
    documents: Int[Tensor, " n"] | None = None,
    labels: Sequence[Mapping[str, str]] | None = None,
    truth: Truth | None = None,
) -> EvaluationContext:
    """An evaluation context over one tensor; without `documents` all rows are one document's."""
    mask = torch.zeros(len(x), dtype=torch.bool) if masked is None else masked
    numbers = torch.zeros(len(x), dtype=torch.long) if documents is None else documents

    def blocks() -> Iterator[tuple[Tensor, Tensor]]:
        yield from zip(x.split(4096), mask.split(4096), strict=True)

    return EvaluationContext(
        n_rows=len(x),
        width=x.shape[1],
        blocks=blocks,
        documents=numbers,
        labels=None if labels is None else lambda: labels,
        truth=None if truth is None else lambda: truth,
    )


def evaluation_context(
    model: TextModel,
    texts: Sequence[str],
    site: str,
    context: int = 128,
    fit_x: Float[Tensor, "m d"] | None = None,
    max_norm_multiple: float = 10.0,
    labels: Sequence[Mapping[str, str]] | None = None,
) -> EvaluationContext:
    """The rows of `model` at `site`, and the model itself, for `evaluate(decomposition, context)`.

    Args:
        model: made by `harness.create("model", ...)`.
        texts: documents that the decomposition was not fitted on.
        site: where the decomposition was fitted, such as `"resid_post.6"`.
        context: tokens in a window.
        fit_x: the rows that it was fitted on. Their mean is what mean-ablation puts in; without them there is none.
        max_norm_multiple: multiple of the median norm of `fit_x`, less its rows of zeros, above which rows are masked.
        labels: of each text, such as `{"topic": "law"}`.
    """
    texts = texts if isinstance(texts, str) else list(texts)  # read again for every replay
    if labels is not None and len(labels) != len(texts):
        raise ConfigError(f"evaluation_context: {len(labels)} labels for {len(texts)} texts; each text has its own.")
    captured = capture(model, texts, [site], context=context)
    if not len(x := captured.x[site].float()):
        raise ConfigError("evaluation_context: the texts give no rows; the first of each window is left out.")
    limit = _max_norm(fit_x, max_norm_multiple)
    masked = torch.zeros(len(x), dtype=torch.bool) if fit_x is None else ~kept(row_norms(x), limit)
    mean = None if fit_x is None else fit_x.mean(dim=0, dtype=torch.float64).cpu()
    documents = [Document(str(index), text) for index, text in enumerate(texts)]
    # A text may be too short for rows: documents are numbered without it.
    own_labels = labels and [labels[index] for index in captured.rows["document"].unique()]
    activations = TensorActivations(x, captured.rows)
    return dataclasses.replace(
        context_of(x, masked, torch.from_numpy(number_documents(captured.rows)), own_labels),
        replays=Replays(lambda: model, lambda: documents, site, context, activations, masked, x.device),
        fit_mean=None if mean is None else lambda: mean,
        tokens=lambda: token_texts(captured.rows, {document.id: document.text for document in documents}),
        elsewhere=lambda other: read_text_rows(model, other, site, context, limit, x.device),
    )


def _max_norm(fit_x: Float[Tensor, "m d"] | None, multiple: float) -> float:
    """A multiple of the median norm of the fit rows; infinite without any."""
    return math.inf if fit_x is None else multiple * typical_norm(row_norms(fit_x))
