"""A monitor: a stream of texts, read through a model and a decomposition, watched for change."""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from harness.contracts.corpus import document_id
from harness.contracts.decomposition import Decomposition
from harness.contracts.model import TextModel
from harness.errors import ConfigError
from harness.monitoring.drift_watch import DriftWatch
from harness.monitoring.monitor_folder import MonitorFolder
from harness.monitoring.naming import Change
from harness.monitoring.reading import ReadDocuments, read_texts
from harness.monitoring.settings import MonitorSettings
from harness.registry.plugin_manager import load_catalog

DEFAULTS = MonitorSettings()
NO_DOCUMENTS = hashlib.sha256(b"").hexdigest()


@dataclass(frozen=True)
class NamedLatent:
    """A pole of a latent that fires otherwise in the last documents than in those of calibration."""

    latent: int
    sign: int
    p_adjusted: float
    """The adjusted p-value; see `monitoring/naming.py`."""
    rate: float
    """Firings per row in the last documents."""
    reference_rate: float
    ratio: float | None
    """The first of these over the second; None where the pole never fires on one side."""
    log_ratio: float | None
    log_ratio_low: float | None
    """The lower end of the 95 % interval of the ratio's logarithm."""
    log_ratio_high: float | None
    explanation: str | None
    tokens: list[str]
    """Tokens of the documents of calibration on which it is strongest."""
    examples: list[dict[str, Any]]
    """Places in the new documents where it is strongest: `document, before, token, after`."""


@dataclass(frozen=True)
class Report:
    """The standing of a stream after a batch of documents."""

    n_read: int
    """Documents of the stream so far."""
    n_documents: int
    """The number of these that have rows."""
    without_rows: int
    """Documents of the batch that have no rows, and say nothing."""
    alarm: bool
    """True from the document on at which the evidence reached the horizon H."""
    alarm_document: int | None
    """The number of that document, from 0 on."""
    log_evidence: float | None
    """The logarithm of the Shiryaev–Roberts statistic, to be compared with ln H; None before the first document."""
    false_alarm_bound: float
    """The most that the probability of an alarm by now can be if nothing has changed: documents / H."""
    named: list[NamedLatent]
    """The latents that have changed, the most surprising first; of unchanged batches 2.5 % name one."""

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        return cls(**{**data, "named": [NamedLatent(**named) for named in data["named"]]})


class Monitor:
    """Watches a stream of texts. Made by `calibrate`, or read from its folder by `load`.

    The alarm has a stated bound as long as unchanged documents come in no order of their own: those of one day, topic
    or user in a row are a change. Once it is raised, later documents are compared with a past that holds the change.
    """

    def __init__(self, folder: MonitorFolder, model: TextModel) -> None:
        self._folder, self._model = folder, model
        self.watch = folder.watch
        self.n_read = 0
        """Documents read so far, those without rows too."""
        self.digest = NO_DOCUMENTS
        """A checksum of their ids, in order."""
        self.report: Report | None = None
        """The report of the last batch."""

    @classmethod
    def calibrate(
        cls,
        folder: str | Path,
        decomposition: Decomposition,
        model: TextModel | Mapping[str, Any],
        site: str,
        texts: Sequence[str],
        *,
        fitted_on: Collection[str],
        explanations: Mapping[tuple[int, int], str] | None = None,
        settings: MonitorSettings = DEFAULTS,
    ) -> Self:
        """Make a monitor from documents like those that the stream is to have, and write it to a folder.

        Args:
            folder: that does not hold a monitor yet.
            decomposition: of rows at the site, with a reconstruction.
            model: made by `harness.create("model", ...)`; or as in suites, `{"model": "hf", "path": ...}`, for `load`
                to make it.
            site: such as `"resid_post.6"`.
            texts: documents that the decomposition has not learnt from, 200 or more; others are refused.
            fitted_on: ids of the documents that it has learnt from, as `harness.document_id(text)` gives them.
            explanations: of latents, by index and sign.
            settings: how it reads, and when it speaks.
        """
        texts = texts if isinstance(texts, str) else list(texts)
        refuse_fitted([document_id(text) for text in texts], fitted_on)
        call = dict(model) if isinstance(model, Mapping) else None
        runs: Any = model if call is None else _made(call)
        reference = read_texts(decomposition, runs, site, texts, settings)
        watch, tokens = DriftWatch(reference.documents, settings), reference.tokens()
        made = MonitorFolder(Path(folder), decomposition, watch, site, call, settings, explanations or {}, tokens)
        made.write()
        return cls(made, runs)

    @classmethod
    def load(cls, folder: str | Path, model: TextModel | None = None) -> Self:
        """The monitor of a folder, standing where its last batch has left it.

        Args:
            folder: of a monitor that `calibrate` has written.
            model: the one that it was calibrated with; not needed where the folder says how to make it.
        """
        read = MonitorFolder.read(Path(folder))
        if model is None:
            if read.model is None:
                raise ConfigError(
                    f"monitor: {folder} does not say how its model is made. Give the one that it was calibrated with: "
                    "load(folder, model)."
                )
            model = _made(read.model)
        monitor = cls(read, model)
        if (report := read.resume()) is not None:
            monitor.report = Report.from_json(report["report"])
            monitor.n_read, monitor.digest = monitor.report.n_read, report["digest"]
        return monitor

    def update(self, documents: Sequence[str]) -> Report:
        """Take the next texts of the stream, in order; their number is free. The state is saved before it returns."""
        documents = documents if isinstance(documents, str) else list(documents)
        own = self._folder
        read = read_texts(own.decomposition, self._model, own.site, documents, own.settings)
        outcome = self.watch.update(read.documents)
        self.n_read += len(documents)
        self.digest = following(self.digest, read.ids)
        self.report = Report(
            n_read=self.n_read,
            n_documents=outcome.n_documents,
            without_rows=read.n_without_rows,
            alarm=outcome.alarm_document is not None,
            alarm_document=outcome.alarm_document,
            log_evidence=outcome.log_evidence if outcome.n_documents else None,
            false_alarm_bound=outcome.false_alarm_bound,
            named=[self._named(change, read) for change in outcome.changes],
        )
        own.save_state({"report": self.report.as_json(), "digest": self.digest})
        return self.report

    def skip_read(self, texts: Iterator[str]) -> None:
        """Take the documents that were read already off the beginning of a stream.

        Raises:
            ConfigError: it begins with others.
        """
        ids = [document_id(text) for text in itertools.islice(texts, self.n_read)]
        if following(NO_DOCUMENTS, ids) != self.digest:
            raise ConfigError(
                f"monitor: the stream does not begin with the {self.n_read} documents that were read of it before. "
                f"Give another one under its own name, or remove {self._folder.path} to begin anew."
            )

    def _named(self, change: Change, read: ReadDocuments) -> NamedLatent:
        latent, sign = change.pole // 2, -1 if change.pole % 2 else 1
        return NamedLatent(
            latent=latent,
            sign=sign,
            p_adjusted=change.p_adjusted,
            rate=change.rate,
            reference_rate=change.reference_rate,
            ratio=None if change.log_ratio is None else math.exp(change.log_ratio),
            log_ratio=change.log_ratio,
            log_ratio_low=change.log_ratio_low,
            log_ratio_high=change.log_ratio_high,
            explanation=self._folder.explanations.get((latent, sign)),
            tokens=self._folder.tokens.get(change.pole, []),
            examples=read.examples(change.pole),
        )


def _made(call: Mapping[str, Any]) -> TextModel:
    params = {key: value for key, value in call.items() if key != "model"}
    made: TextModel = load_catalog().create("model", str(call.get("model")), params)
    return made


def refuse_fitted(documents: Collection[str], fitted_on: Collection[str]) -> None:
    """Raise a ConfigError where documents for calibration are among those that a fit has learnt from."""
    learnt = set(fitted_on)
    if shared := [document for document in documents if document in learnt]:
        raise ConfigError(
            f"monitor: {len(shared)} of {len(documents)} documents for calibration are among those that the "
            f"decomposition was fitted on, such as {shared[0]}. It reconstructs these better than unseen ones, so an "
            "unchanged stream would raise the alarm. Give documents that it has not learnt from."
        )


def following(digest: str, ids: Sequence[str]) -> str:
    """The checksum of all ids so far, after some more."""
    for own in ids:
        digest = hashlib.sha256(f"{digest} {own}".encode()).hexdigest()
    return digest
