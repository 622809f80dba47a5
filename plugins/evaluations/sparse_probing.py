"""Evaluation `sparse_probing`: how well a few latents tell what a document is about.

Every label that at least `min_documents` documents have and as many lack is a task of its own: with it or without it.
Labels that divide the same documents in the same two parts ask one question and are one task: of a label with two
values the last is asked for, as yes of yes and no, and of label names that say the same the first.

A document is described by the mean of its codes over its unmasked rows. Documents rather than windows are classified
(and split, and drawn anew), because windows of one document are alike: a probe could know a document again, and an
interval over windows would be too narrow. A share of the documents with each label is for testing. From the others come

    the K latents with the largest |mean with the label − mean without it| / standard deviation, to four decimals (of
    equal ones those that come first), and
    an L2-regularised logistic regression (C = 1) on these, scaled to variance 1, both sides of equal weight.

The same is done with the channels of the activations in the place of latents, and with all channels at once. So units
have no part in the scores: a latent whose codes are c times as large, on a row of the dictionary 1/c times as long, is
probed alike, and a loud channel is not taken for one that tells. Metrics are those of the test documents, averaged over
tasks. Documents with and without the label weigh the same, as in sets with equally many of either, so that rare labels
are no easier: guesses have accuracy and AUC .5. The intervals come from drawing the test documents of each label anew,
1,000 times and the same for all probes, as the module `probe_intervals` says; they do not say what other training
documents would have given.

    tasks         number of different questions
    accuracy_x    share of documents that are classified rightly; x is latents_K, channels_K or all_channels
    f1_x          2 TP / (2 TP + FP + FN)
    auc_x         probability that a document with the label gets higher odds than one without it; ties count half
    auc_x_low     lower end of the 95 % interval of auc_x; the others have one too
    auc_x_high    higher end of it

Source: the sparse probing of SAEBench (Karvonen et al. 2025, arXiv 2503.09532; Gurnee et al. 2023, arXiv 2305.01610),
which takes sets of equally many documents instead of weights, does not scale, chooses by the difference of means in
the latents' own units, and reports accuracy.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch
from jaxtyping import Bool, Float, Int

import harness
from harness.plugins.evaluations import SparseProbingConfig
from harness.plugins.evaluations.probe_intervals import interval_of_share

N_REPLICATES = 1000
SCORES = ("accuracy", "f1", "auc")
_MAX_BYTES = 8e9
_DECIMALS = 4
_ROUNDING = 1e-12
"""Deviation, as a share of the mean, that rounding alone gives to equal numbers."""

Array: TypeAlias = np.ndarray
Scores: TypeAlias = Float[Array, "replicates+1 3"]
"""Scores of one probe, a column for each of `SCORES`: first on the test documents as they are, then per replicate."""


class Task(NamedTuple):
    """One label against its absence, on the documents that have any label of that name."""

    train: Int[Array, " n"]
    test: Int[Array, " q"]
    has_label: Bool[Array, " documents"]
    drawn: Float[Array, "replicates+1 q"]
    """Number of times that each replicate counts each test document; the first line counts all once."""

    @property
    def sizes(self) -> Int[Array, 2]:
        """The numbers of test documents without the label and with it."""
        return np.bincount(self.has_label[self.test].astype(int), minlength=2)


class SparseProbing:
    """Encodes the rows once, and keeps the mean code of each document."""

    def __init__(self, config: SparseProbingConfig) -> None:
        self.config = config

    @torch.no_grad()
    def evaluate(
        self, decomposition: harness.Decomposition, context: harness.EvaluationContext
    ) -> list[harness.TableRow]:
        """The metrics of the list above, for latents, as many channels, and all channels."""
        key = f"sparse_probing {self.config}"
        if key not in context.shared:
            context.shared[key] = self._without_decomposition(context)
        tasks, n_test, channels = context.shared[key]
        m, ks = decomposition.n_latents, self.config.ks
        codes = _mean_codes(decomposition, context)
        latents = {f"latents_{k}": self._probe(tasks, codes, k) if k <= m else f"there are {m} latents" for k in ks}
        n_tasks = harness.TableRow("tasks", len(tasks), n_test)
        rarest = min(int(task.sizes.min()) for task in tasks)
        found = (latents | channels).items()
        return [n_tasks, *(row for x, scores in found for row in _table_rows(x, scores, n_test, rarest))]

    def _without_decomposition(
        self, context: harness.EvaluationContext
    ) -> tuple[list[Task], int, dict[str, Scores | str]]:
        """The tasks, the number of their test documents, and what channels achieve."""
        if context.labels is None:
            raise harness.Undefined("this context has no labels")
        x, n_rows = _mean_rows(context)
        tasks = list(find_tasks(context.labels(), n_rows > 0, self.config))
        if not tasks:
            raise harness.Undefined(
                f"there is no label that {self.config.min_documents} evaluation documents have and as many lack; take "
                "a corpus with labels, or raise tokens.evaluation"
            )
        d, ks = context.width, self.config.ks
        found = {f"channels_{k}": self._probe(tasks, x, k) if k <= d else f"there are {d} channels" for k in ks}
        found["all_channels"] = self._probe(tasks, x, d)
        return tasks, len(np.unique(np.concatenate([task.test for task in tasks]))), found

    def _probe(self, tasks: Sequence[Task], features: Float[Array, "documents m"], k: int) -> Scores:
        """The scores of probes on k features, as a mean over tasks."""
        found: Scores = np.mean([_scores(task, _odds(task, features, k)) for task in tasks], axis=0)
        return found


def find_tasks(
    labels: Sequence[Mapping[str, str]], has_rows: Bool[Array, " documents"], config: SparseProbingConfig
) -> Iterator[Task]:
    """Yield the probing tasks, sorted by label name and then by falling label value; each question once."""
    asked: set[bytes] = set()
    for name in sorted({name for own in labels for name in own}):
        values = np.array([own.get(name) for own in labels], dtype=object)
        labelled = np.flatnonzero((values != None) & has_rows)  # noqa: E711  # of every item
        if not len(labelled):  # all its documents are without rows
            continue
        # The seed and the name decide, so that a label of another name does not change this split.
        generator = np.random.default_rng([config.seed, *name.encode()])
        train, test, drawn = [], [], []
        for value in sorted(set(values[labelled])):
            own = generator.permutation(labelled[values[labelled] == value])
            n_test = round(config.test_share * len(own))
            test.append(own[:n_test])
            train.append(own[n_test:])
            drawn.append(_drawn(n_test, generator))
        parts = np.concatenate(train), np.concatenate(test)
        drawn_together = np.hstack(drawn)
        for value in sorted(set(values[labelled]), reverse=True):
            has_label = values == value
            n_with = int(has_label[labelled].sum())
            if min(n_with, len(labelled) - n_with) >= config.min_documents and _is_new(has_label, labelled, asked):
                yield Task(*parts, has_label, drawn_together)


def _is_new(has_label: Bool[Array, " documents"], labelled: Int[Array, " l"], asked: set[bytes]) -> bool:
    """True for a division into two parts that is not among those `asked` yet; it is added to them."""
    side = np.zeros(len(has_label), dtype=np.int8)  # 0 for documents without a label of this name
    # Which part is called the one with the label makes no other question: that of the first document is always 1.
    side[labelled] = np.where(has_label[labelled] == has_label[labelled[0]], 1, 2)
    division = side.tobytes()
    is_new = division not in asked
    asked.add(division)
    return is_new


def _drawn(n: int, generator: np.random.Generator) -> Float[Array, "replicates+1 n"]:
    """Draw how often each replicate counts each of the n documents with one label, so that it keeps every label."""
    if n == 0:
        return np.ones((1 + N_REPLICATES, 0))
    return np.vstack([np.ones(n), generator.multinomial(n, np.full(n, 1 / n), N_REPLICATES)])


def _odds(task: Task, features: Float[Array, "documents m"], k: int) -> Float[Array, " q"]:
    """The log-odds that a probe on k features, chosen and fitted on the training documents, gives to the others."""
    try:
        from sklearn.linear_model import LogisticRegression  # here, so that a machine without it can do all else
    except ImportError as error:
        raise harness.ConfigError(f"evaluation sparse_probing: {error}. Run: pip install scikit-learn") from error
    x, has_label = features[task.train], task.has_label[task.train]
    mean, deviation = x.mean(axis=0), x.std(axis=0)
    varies = deviation > _ROUNDING * np.abs(mean)
    scale = np.where(varies, deviation, np.inf)  # what does not vary is 0 in the units of the others
    difference = np.abs(x[has_label].mean(axis=0) - x[~has_label].mean(axis=0)) / scale
    # Latents that are active in one document each tell the same: rounding must not decide between them, but order.
    chosen = np.argsort(-difference.round(_DECIMALS), kind="stable")[:k]
    probe = LogisticRegression(C=1.0, max_iter=1000, class_weight="balanced")
    probe.fit((x[:, chosen] - mean[chosen]) / scale[chosen], has_label)
    odds: Array = probe.decision_function((features[task.test][:, chosen] - mean[chosen]) / scale[chosen])
    return odds


def _scores(task: Task, odds: Float[Array, " q"]) -> Scores:
    """The scores of a probe on the test documents, then on those of each replicate."""
    has_label = task.has_label[task.test]
    with_it, without_it = task.drawn[:, has_label], task.drawn[:, ~has_label]
    high, low = odds[has_label], odds[~has_label]
    n_with, n_without = with_it.sum(axis=1), without_it.sum(axis=1)
    true_rate, false_rate = with_it @ (high > 0) / n_with, without_it @ (low > 0) / n_without
    above = (high[:, None] > low) + 0.5 * (high[:, None] == low)
    auc = ((with_it @ above) * without_it).sum(axis=1) / (n_with * n_without)
    return np.stack([(true_rate + 1 - false_rate) / 2, 2 * true_rate / (1 + true_rate + false_rate), auc], axis=1)


def _table_rows(x: str, found: Scores | str, n_test: int, rarest: int) -> Iterator[harness.TableRow]:
    for i, score in enumerate(SCORES):
        names = f"{score}_{x}", f"{score}_{x}_low", f"{score}_{x}_high"
        if isinstance(found, str):
            values: Sequence[Any] = (None, None, None)
        else:
            values = (found[0, i], *interval_of_share(found[0, i], found[1:, i].std(), max(2, rarest)))
        for name, value, better in zip(names, values, (True, None, None), strict=True):
            reason = found if isinstance(found, str) else None
            yield harness.TableRow(name, None if value is None else float(value), n_test, better, reason)


def _mean_rows(context: harness.EvaluationContext) -> tuple[Float[Array, "documents d"], Int[Array, " documents"]]:
    """The mean of the unmasked rows of each document (0 where it has none), and their number."""
    totals = torch.zeros(context.n_documents, context.width, dtype=torch.float64)
    n_rows = torch.zeros(context.n_documents, dtype=torch.long)
    for x, documents in _unmasked(context):
        totals.index_add_(0, documents, x.double().cpu())
        n_rows.index_add_(0, documents, torch.ones_like(documents))
    return (totals / n_rows.clamp(min=1)[:, None]).numpy(), n_rows.numpy()


def _mean_codes(
    decomposition: harness.Decomposition, context: harness.EvaluationContext
) -> Float[Array, "documents m"]:
    """The mean code of the unmasked rows of each document; 0 where it has none."""
    n, m = context.n_documents, decomposition.n_latents
    n_rows = torch.zeros(n, dtype=torch.long)
    if n * m * 8 > _MAX_BYTES:
        raise harness.Undefined(
            f"the mean codes of {n} documents and {m} latents take {n * m * 8e-9:.0f} GB, more than "
            f"{_MAX_BYTES * 1e-9:.0f}; evaluate on fewer tokens"
        )
    totals = torch.zeros(n * m, dtype=torch.float64)
    for x, documents in _unmasked(context):
        # A clone: a method may write into the rows it is given, which are those of all the others too.
        codes = decomposition.encode(x.clone())
        latents = torch.arange(m).expand(len(x), m) if codes.indices is None else codes.indices.cpu()
        places = documents[:, None] * m + latents
        totals.index_add_(0, places.flatten(), codes.values.double().cpu().flatten())
        n_rows.index_add_(0, documents, torch.ones_like(documents))
    if not torch.isfinite(totals).all():
        raise harness.PluginError(f"{type(decomposition).__name__}.encode returned NaN or infinite codes.")
    return (totals.view(n, m) / n_rows.clamp(min=1)[:, None]).numpy()


def _unmasked(context: harness.EvaluationContext) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Rows and the numbers of their documents, on the CPU, block by block."""
    waiting = context.documents.cpu()
    for x, masked in context.blocks():
        documents, waiting = waiting[: len(x)], waiting[len(x) :]
        keep = ~masked
        if keep.any():
            yield x[keep], documents[keep.cpu()]
