"""The cells that follow a `latents` cell: explanations of its latents, and their scores.

Explainers and scorers may ask the same models (encoder, judge, subject), and are skipped for the same reasons.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.planning.cells import Cell
from harness.planning.entries import Entry, ModelEntry
from harness.planning.keys import canonical_json, content_key
from harness.planning.suite import Suite

_OF_SUBJECT = {"model", "head"}


@dataclass(frozen=True)
class LatentsRead:
    """The latents of one fit, and where they were read."""

    suite: Suite
    model: ModelEntry
    method: Entry
    source: Mapping[str, Any]
    """The work of the capture whose rows they are read on, from which its model and texts can be made again."""
    rows: Mapping[str, Any]
    """The key of that capture, and how its rows are masked."""
    cell: Cell

    def explanations(self) -> Iterator[dict[str, Any]]:
        """The fields of an explanation cell for each explainer, and `inputs`, from which its key is made."""
        for explainer in self.suite.explainers:
            asked = ", ".join(entry.label for entry in self.suite.asked_by(explainer).values())
            yield self._fields("explanation", explainer) | {
                "inputs": self._inputs("explainer", explainer),
                "work": self._work("explainer", explainer),
                "columns": {
                    **self.cell.columns,
                    "explainer": f"{explainer.label} by {asked}" if asked else explainer.label,
                    "plugin_version": explainer.version,
                },
            }

    def scores(self, explanations: Sequence[Cell]) -> Iterator[dict[str, Any]]:
        """The fields of a scoring cell for each scorer, and for each explanation cell if it needs explanations."""
        for scorer in self.suite.scorers:
            for explanation in explanations if "explanation" in scorer.needs else [None]:
                yield self._score(scorer, explanation)

    def _score(self, scorer: Entry, explanation: Cell | None) -> dict[str, Any]:
        fields = self._fields("scoring", scorer)
        explained = {"explanation": explanation.key} if explanation else {}
        by = f", explained by {explanation.columns['explainer']}" if explanation else ""
        return fields | {
            "inputs": self._inputs("scorer", scorer) | explained,
            "label": f"{fields['label']}{by}",
            "work": self._work("scorer", scorer) | explained,
            "columns": {
                **self.cell.columns,
                "scorer": scorer.name,
                "scorer_config": canonical_json(dict(scorer.params)),
                "judge": ", ".join(entry.label for entry in self.suite.asked_by(scorer).values()) or None,
                "explainer": explanation.columns["explainer"] if explanation else None,
                "plugin_version": scorer.version,
            },
            "upstream": (*fields["upstream"], *explained.values()),
            "skipped": fields["skipped"] or (explanation.skipped if explanation else None),
        }

    def _fields(self, kind: str, asker: Entry) -> dict[str, Any]:
        """The fields that explanation and scoring cells have in common."""
        subject = self._subject(asker)
        encoder = self.suite.encoder_of(asker)
        asks = [*self.suite.asked_by(asker), *(["encoder"] if encoder else []), *(["subject"] if subject else [])]
        return {
            "kind": kind,
            "label": f"{asker.label} of {self.cell.name}",
            "group": content_key({kind: self.rows, "asks": asks}),
            "upstream": (self.cell.key, self.cell.work["fit"], *([subject["fit_capture"]] if subject else [])),
            "skipped": self.cell.skipped or _unmet(asker, self.method, self.model),
        }

    def _inputs(self, role: str, asker: Entry) -> dict[str, Any]:
        asked = {part: entry.inputs for part, entry in self.suite.asked_by(asker).items()}
        return {role: asker.inputs, "latents": self.cell.key, "encoder": self.suite.encoder_of(asker)} | asked

    def _work(self, role: str, asker: Entry) -> dict[str, Any]:
        asked = {part: entry.call | {"inputs": entry.inputs} for part, entry in self.suite.asked_by(asker).items()}
        return {
            **{role: asker.call, "subject": self._subject(asker)},
            **{"latents": self.cell.key, "fit": self.cell.work["fit"], "seed": self.cell.columns["seed"]},
            **{"encoder": self.suite.encoder_of(asker), **asked},
        }

    def _subject(self, asker: Entry) -> dict[str, Any] | None:
        """The model whose activations are decomposed, as a worker finds it; None where it is not asked."""
        if not _OF_SUBJECT & set(asker.needs):
            return None
        return {"source": self.source, **{name: self.rows[name] for name in ("fit_capture", "max_norm_multiple")}}


def _unmet(asker: Entry, method: Entry, model: ModelEntry) -> str | None:
    """The reason why a scorer or explainer can't be used here, as far as a plan can know."""
    if "atoms" in asker.needs and "atoms" not in method.provides:
        return f"{asker.name} needs atoms, which {method.name} lacks"
    if _OF_SUBJECT & set(asker.needs) and model.has_own_rows:
        return f"{asker.name} needs a model, but {model.label} has only stored rows"
    return None
