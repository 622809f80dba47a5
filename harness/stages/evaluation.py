"""Evaluation: measure one decomposition on rows of documents that it was not fitted on."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from harness.capturing.activations import BLOCK_ROWS
from harness.capturing.kept_mean import KeptMean
from harness.capturing.masking import masked_rows, max_norm
from harness.capturing.replays import Replays, number_documents
from harness.capturing.splits import documents_in_split
from harness.capturing.text_rows import read_text_rows, token_texts
from harness.contracts.corpus import Corpus, Document
from harness.contracts.decomposition import Decomposition, load
from harness.contracts.evaluation import Evaluation, EvaluationContext, TextRows
from harness.contracts.model import KnowsTruth, Model, Truth
from harness.contracts.table_row import checked_rows
from harness.errors import PluginError, StoreError, Undefined
from harness.planning.cells import Cell
from harness.registry.isolation import isolated
from harness.registry.metric import TAKEN_NAMES, metric_named
from harness.running.session import Session
from harness.storage.activation_store import StoredActivations
from harness.storage.records import cost
from harness.storage.store import require


def run(cells: list[Cell], session: Session) -> None:
    """Evaluate decompositions on the rows they share."""
    context = _context(cells[0].work, session)
    for number, cell in enumerate(cells):
        with session.alone(cell):
            decomposition = load(require(session.store, "fit", cell.work["fit"])[0], session.device)
            call = cell.work["evaluation"]
            absent = _absent(session.catalog.needs("evaluation", **call), decomposition, context)
            if absent:
                session.skip(cell, f"{call['name']} needs {', '.join(absent)}, which {cell.columns['method']} lacks")
                continue
            try:
                session.done(cell, _rows(call, decomposition, context, session))
            except Undefined as undefined:
                session.skip(cell, f"{call['name']}: {undefined.reason}")
        session.progress("evaluated", number + 1, len(cells))


def _context(work: Any, session: Session) -> EvaluationContext:
    activations = StoredActivations(*require(session.store, "capture", work["capture"]))
    fit = StoredActivations(*require(session.store, "capture", work["fit_capture"]))
    masked = masked_rows(activations, fit, work["max_norm_multiple"])

    def blocks() -> Iterator[tuple[Tensor, Tensor]]:
        for start in range(0, activations.n_rows, BLOCK_ROWS):
            index = torch.arange(start, min(start + BLOCK_ROWS, activations.n_rows))
            yield activations.take(index).to(session.device), masked[index].to(session.device)

    source = work.get("source")
    return EvaluationContext(
        n_rows=activations.n_rows,
        width=activations.width,
        blocks=blocks,
        documents=torch.from_numpy(number_documents(activations.rows)),
        replays=_replays(source, activations, masked, session) if source else None,
        fit_mean=partial(_mean, fit, work["max_norm_multiple"]),
        labels=partial(_labels, source, activations, session) if source else None,
        truth=partial(_truth, source, activations, session) if source else None,
        tokens=partial(_tokens, source, activations, session) if source else None,
        elsewhere=_elsewhere(source, fit, work["max_norm_multiple"], session) if source else None,
    )


def _replays(source: Any, activations: StoredActivations, masked: Tensor, session: Session) -> Replays:
    """Make the replays of a site; `source` is the work of the capture that has made the activations."""
    load_model = partial(session.create, "model", source["model"])
    site, context = source["site"], source["context"]
    documents = partial(_documents, source, session)
    return Replays(load_model, documents, site, context, activations, masked, session.device)


def _documents(source: Any, session: Session) -> Iterator[Document]:
    corpus: Corpus = session.create("corpus", source["corpus"])
    return documents_in_split(corpus.documents(), source["documents"])


def _labels(source: Any, activations: StoredActivations, session: Session) -> list[Mapping[str, str]]:
    return [document.labels for document in _captured_documents(source, activations, session, "label them")]


def _tokens(source: Any, activations: StoredActivations, session: Session) -> list[str]:
    documents = _captured_documents(source, activations, session, "tell their tokens")
    return token_texts(activations.rows, {document.id: document.text for document in documents})


def _captured_documents(source: Any, activations: StoredActivations, session: Session, use: str) -> list[Document]:
    """The documents that have rows, in their order; `use` says what for."""
    if source["corpus"] is None:
        raise Undefined(f"its rows came without texts; there is no corpus that could {use}")
    wanted = list(dict.fromkeys(activations.rows["document"]))
    remaining, found = set(wanted), dict[str, Document]()
    for document in _documents(source, session):
        if document.id in remaining:
            found[document.id] = document
            remaining.remove(document.id)
            if not remaining:
                break
    if remaining:
        raise StoreError(
            f"{len(remaining)} of {len(wanted)} captured documents are no longer in the corpus. If its files have "
            "changed meanwhile, run the suite again: the rows are captured anew."
        )
    return [found[document] for document in wanted]


def _elsewhere(
    source: Any, fit: StoredActivations, max_norm_multiple: float, session: Session
) -> Callable[[Sequence[str]], TextRows]:
    """A reader of other texts, masked as all rows of the suite are."""

    def read(texts: Sequence[str]) -> TextRows:
        if source["corpus"] is None:
            raise Undefined("its rows came without texts, and its model reads none")
        limit = max_norm(fit, max_norm_multiple)
        model = session.create("model", source["model"])
        return read_text_rows(model, texts, source["site"], source["context"], limit, session.device)

    return read


def _truth(source: Any, activations: StoredActivations, session: Session) -> Truth:
    model: Model = session.create("model", source["model"])
    if not isinstance(model, KnowsTruth):
        raise Undefined("the true features of this model are not known")
    return model.truth(activations.rows)


def _mean(fit: StoredActivations, max_norm_multiple: float) -> Float[Tensor, " d"]:
    """The mean of the fit rows that are not masked."""
    if not fit.has_rows:
        return fit.kept_mean()
    mean = KeptMean()
    for index in (~masked_rows(fit, fit, max_norm_multiple)).nonzero().flatten().split(BLOCK_ROWS):
        mean.add(fit.take(index))
    return mean.value()


def _absent(needs: Iterable[str], decomposition: Decomposition, context: EvaluationContext) -> list[str]:
    """The needs of an evaluation that are not met; a missing head, or missing labels, only come to light in use."""
    offered = {
        "dictionary": decomposition.dictionary is not None,
        "atoms": decomposition.atoms is not None,
        "model": context.replays is not None,
        "head": context.replays is not None,
        "labels": context.labels is not None,
        "texts": context.tokens is not None and context.elsewhere is not None,
        "truth": context.truth is not None,
    }
    return [need for need in needs if not offered[need]]


def _rows(
    call: Any, decomposition: Decomposition, context: EvaluationContext, session: Session
) -> list[dict[str, Any]]:
    started = time.perf_counter()
    evaluation: Evaluation = session.create("evaluation", call)
    where = f"evaluation {call['name']}"
    with isolated():
        found = checked_rows(evaluation.evaluate(decomposition, context), where)
    seconds = time.perf_counter() - started
    rows = [{"table": call["name"], **asdict(row)} for row in found]
    for row in rows:
        if row["metric"] in TAKEN_NAMES:
            raise PluginError(f"{where}: a metric is called {row['metric']!r}, as a column of tables is.")
    declared = session.catalog.find("evaluation", call["name"]).spec.metrics
    if unknown := [row["metric"] for row in rows if metric_named(row["metric"], declared) is None]:
        session.warn(
            f"{where} does not declare {', '.join(map(repr, dict.fromkeys(unknown)))}; it is in "
            "tables as it is. Add a harness.Metric to `metrics` of its Spec to say what it means and where to show it."
        )
    return [*rows, cost(f"evaluation_seconds_{call['name']}", seconds, context.n_rows)]
