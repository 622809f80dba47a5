"""Evaluation `drift`: how well a decomposition tells that documents have become others, and names what has changed.

Documents before the change are those of the evaluation rows; those after it are of another corpus, or have another
label. Of each the first `max_rows` rows count, so that length tells nothing. The documents before the change are dealt
out at random: a third counts tokens, a third calibrates, and a third is the stream. No fit has learnt from any of them.
The score of a document is the relative reconstruction error of its rows (`harness.watched`); the alarm is that of a
conformal martingale (`harness.Martingale`) at H = `horizon`, raised in one of `n_streams` streams in random orders:

    false_alarm_rate     share of unchanged streams, as long as there are documents, that raise the alarm
    alarm_bound          documents of such a stream / H: what this share is at most, as a probability
    delay_100            median number of documents until the alarm, from where all documents are of the new kind, after
                         a third of the stream; streams that raise it before are left out, and one that never does
                         counts as longer than all others. Null where half of the streams or more do not raise it
    delay_30, delay_10   the same where 30 %, or 10 %, of the documents are of the new kind from there on
    auroc                probability that a new document has a larger score than one of the stream; .5 is chance. Its
                         95 % interval is from drawing the documents of both sides anew, 200 times
    named_recall         share of ten planted latents that are named: in batches of up to 32 documents of the stream
                         they fire `planted_factor` times as often, in rows drawn at random. Drawn among those that fire
                         in .5 % to 5 % of rows; the other documents are the reference (see `harness.DriftWatch`)
    named_precision      share of the latents named in these batches that are planted ones
    named_wrongly        share of as many batches without change in which any latent is named; .025 at most on average

Beside them stands the control that needs no model: the surprise of a document, the mean over its tokens of −ln p under
the token counts of the first third (one added to each count), with the same streams: `auroc_unigram`, and so on. A
decomposition is worth monitoring with where it beats that.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from scipy import sparse

import harness
from harness.plugins.evaluations import DriftConfig
from harness.plugins.evaluations.drift_sides import Array, Documents, Sides
from harness.plugins.scorers.auroc import auroc

SHARES = (100, 30, 10)
_N_REPLICATES = 200
_N_PLANTED = 10
_BATCH = 32
_PLANTED_RATES = (0.005, 0.05)
_PART = 3


@dataclass(frozen=True)
class _Scores:
    """One number for each document: of calibration, of the stream before the change, and of the new kind."""

    calibration: Array
    stream: Array
    new: Array


class Drift:
    """Compares documents before and after a change, which is the same for all decompositions of these rows."""

    def __init__(self, config: DriftConfig) -> None:
        self._config, self._sides = config, Sides(config)

    def evaluate(
        self, decomposition: harness.Decomposition, context: harness.EvaluationContext
    ) -> list[harness.TableRow]:
        """One table row per metric of the list above."""
        before, new = self._sides.of(context)
        parts = np.array_split(np.random.default_rng(self._config.seed).permutation(before.n), _PART)
        counts, calibration, stream = (np.sort(part) for part in parts)
        watched, watched_new = (_watched(decomposition, side) for side in (before, new))
        own = _Scores(watched.scores[calibration], watched.scores[stream], watched_new.scores)
        surprise = _surprise(before, counts)
        plain = surprise(before)
        control = _Scores(plain[calibration], plain[stream], surprise(new))
        reference = watched.take(np.concatenate([counts, calibration]).tolist())
        return [
            *self._of_scores(own, ""),
            harness.TableRow("alarm_bound", min(1.0, len(stream) / self._config.horizon), len(stream)),
            *self._of_scores(control, "_unigram"),
            *self._named(reference, watched.take(stream.tolist())),
        ]

    def _of_scores(self, scores: _Scores, suffix: str) -> Iterator[harness.TableRow]:
        alarms = [
            self._alarm(scores, stream, scores.stream[self._draw(stream).permutation(len(scores.stream))])
            for stream in range(self._config.n_streams)
        ]
        rate = sum(alarm is not None for alarm in alarms) / len(alarms)
        yield harness.TableRow(f"false_alarm_rate{suffix}", rate, len(alarms))
        for share in SHARES:
            yield self._delay(scores, share, f"delay_{share}{suffix}")
        n = len(scores.stream) + len(scores.new)
        for end, value in zip(("", "_low", "_high"), _auroc(scores, self._draw(0)), strict=True):
            yield harness.TableRow(f"auroc{suffix}{end}", value, n)

    def _delay(self, scores: _Scores, share: int, metric: str) -> harness.TableRow:
        """The median delay over streams in which some of the documents are new after a third of them."""
        delays, n_before = list[float](), len(scores.stream) // _PART
        for stream in range(self._config.n_streams):
            draw = self._draw(stream)
            mixed = scores.stream[draw.permutation(len(scores.stream))]
            is_new = (np.arange(len(mixed)) >= n_before) & (draw.random(len(mixed)) < share / 100)
            mixed[is_new] = draw.choice(scores.new, int(is_new.sum()))
            alarm = self._alarm(scores, stream, mixed)
            if alarm is None or alarm >= n_before:
                delays.append(math.inf if alarm is None else alarm - n_before + 1)
        found = sum(delay < math.inf for delay in delays)
        if 2 * found <= len(delays):
            reason = (
                f"{found} of {len(delays)} streams raise the alarm within {len(scores.stream) - n_before} documents"
            )
            return harness.TableRow(metric, None, len(delays), reason=reason)
        return harness.TableRow(metric, float(np.sort(delays)[len(delays) // 2]), len(delays))

    def _alarm(self, scores: _Scores, seed: int, stream: Array) -> int | None:
        """The number of the document that raises the alarm in a stream."""
        martingale = harness.Martingale(scores.calibration.tolist(), self._config.horizon, seed)
        for score in stream.tolist():
            martingale.add(score)
            if martingale.alarm_document is not None:
                break
        return martingale.alarm_document

    def _draw(self, stream: int) -> np.random.Generator:
        return np.random.default_rng([self._config.seed, stream])

    def _named(self, reference: harness.WatchedDocuments, stream: harness.WatchedDocuments) -> list[harness.TableRow]:
        rates = np.asarray(reference.fired.sum(axis=0)) / reference.n_rows.sum()
        low, high = _PLANTED_RATES
        candidates = np.flatnonzero((rates >= low) & (rates <= high))
        if len(candidates) < _N_PLANTED:
            reason = f"{len(candidates)} poles of latents fire in {low:.1%} to {high:.0%} of rows; ten are planted"
            return [harness.TableRow(name, None, 0, reason=reason) for name in ("named_recall", "named_precision")]
        n_found = n_named = n_wrong = 0
        n_batches = self._config.n_streams
        for number in range(n_batches):
            draw = self._draw(number)
            batch = stream.take(draw.permutation(len(stream))[:_BATCH].tolist())
            planted = draw.choice(candidates, _N_PLANTED, replace=False)
            extra = np.minimum((self._config.planted_factor - 1) * rates[planted], 1.0)
            named = _names(reference, _with_more(batch, planted, extra, draw), number)
            n_found += len(named & set(planted.tolist()))
            n_named += len(named)
            n_wrong += bool(_names(reference, batch, number))
        n_planted = _N_PLANTED * n_batches
        return [
            harness.TableRow("named_recall", n_found / n_planted, n_planted),
            harness.TableRow(
                "named_precision",
                n_found / n_named if n_named else None,
                n_named,
                reason=None if n_named else "no latent is named",
            ),
            harness.TableRow("named_wrongly", n_wrong / n_batches, n_batches),
        ]


def _watched(decomposition: harness.Decomposition, documents: Documents) -> harness.WatchedDocuments:
    ids = [str(number) for number in range(documents.n)]
    found = harness.watched(decomposition, documents.x, documents.numbers, ids)
    if len(found) < len(ids):
        raise harness.Undefined(f"all rows of {len(ids) - len(found)} documents are zero")
    return found


def _surprise(documents: Documents, counted: Array) -> Callable[[Documents], Array]:
    """The mean surprise of documents, in nats a token, by the tokens of some documents."""
    chosen = np.isin(documents.numbers, counted)
    counts = Counter(token for token, is_counted in zip(documents.tokens, chosen, strict=True) if is_counted)
    total = counts.total() + len(counts) + 1  # one for each known token, and one for all unknown ones

    def surprise(others: Documents) -> Array:
        nats = np.array([-math.log((counts[token] + 1) / total) for token in others.tokens])
        return np.bincount(others.numbers, nats) / np.bincount(others.numbers)

    return surprise


def _auroc(scores: _Scores, draw: np.random.Generator) -> tuple[float, float, float]:
    """The value, and the ends of its 95 % interval."""
    drawn = [
        auroc(*(draw.choice(side, len(side)).tolist() for side in (scores.new, scores.stream)))
        for _ in range(_N_REPLICATES)
    ]
    low, high = np.quantile(drawn, [0.025, 0.975])
    return auroc(scores.new.tolist(), scores.stream.tolist()), float(low), float(high)


def _with_more(
    batch: harness.WatchedDocuments, poles: Array, extra: Array, draw: np.random.Generator
) -> harness.WatchedDocuments:
    """Documents in which poles fire in more rows: each row with a probability of its own."""
    more = sparse.lil_array(batch.fired.shape, dtype=np.int64)
    more[:, poles] = draw.binomial(batch.n_rows[:, None], extra[None])
    return harness.WatchedDocuments(batch.ids, batch.n_rows, batch.scores, sparse.csr_array(batch.fired + more))


def _names(reference: harness.WatchedDocuments, batch: harness.WatchedDocuments, seed: int) -> set[int]:
    """The poles that are named in a batch."""
    settings = harness.MonitorSettings(window=len(batch), seed=seed)
    return {change.pole for change in harness.DriftWatch(reference, settings).update(batch).changes}
