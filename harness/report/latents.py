"""The cards of latents as files beside the page: a list for each decomposition, a file for each card.

A page opened from disk may not fetch, but it may load scripts. So each file is one: it puts its JSON under its own name
into the global `latents`, and nothing is loaded before it is asked for.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from harness.latents.explanations import of_latents
from harness.latents.relatives import Relative, Relatives
from harness.planning.cells import Cell
from harness.planning.plan import Plan
from harness.planning.suite import Suite
from harness.registry.redaction import Redaction
from harness.report.earlier import Earlier
from harness.report.scores import Scores
from harness.storage.made import left_by
from harness.storage.store import Store, read_checked
from harness.wording import visible

_LISTED = ("index", "sign", "stratum", "density", "active_share", "n_active", "n_documents", "max")
_ESCAPE = re.compile(r"\\u[dD][89abAB]..\\u[dD][c-fC-F]..|\\u....|\\.|\x7f")
"""A character that JSON writes as an escape, which may take two of them; and the one that it should."""
_AS_IT_IS = (int, type(None))
"""Marks that most of the 60,000 of a thousand latents consist of."""
_MARKUP = re.compile("[<>&\u2028\u2029]")
"""Characters that could end a script or begin a tag, should a file ever be put into a page."""


def script_json(data: Any) -> str:
    """JSON that is safe inside a script, wherever it stands. Numbers must be finite."""
    # ASCII only: escapes also carry lone surrogates, which texts may hold and UTF-8 can't.
    written = json.dumps(data, allow_nan=False, separators=(",", ":"))
    return _MARKUP.sub(lambda match: f"\\u{ord(match[0]):04x}", written)


@dataclass(frozen=True)
class Cards:
    """Writes the cards of a plan's decompositions beside the page.

    Args:
        folder: the folder to make.
        plan: the plan whose cells of kind `latents` are shown.
        store: holds their artefacts; a decomposition whose artefact is gone from the cache is listed without cards.
        scores: the scores of each latent.
        redaction: hides what no file may hold.
        earlier: the report that was made before.
    """

    folder: Path
    plan: Plan
    store: Store
    scores: Scores
    redaction: Redaction
    earlier: Earlier
    _numbers: dict[str, int] = field(default_factory=dict)
    """The number of each decomposition's list, by the key of its cell."""

    @cached_property
    def _relatives(self) -> Relatives:
        return Relatives(self.plan, self.store)

    def write(self) -> list[dict[str, Any]]:
        """Write `<n>.js` for each decomposition and `<n>/<i>.js` for each card; return what the page lists of these."""
        self.folder.mkdir()
        shown, cells = [], [cell for cell in self.plan.of_kind("latents") if _is_done(self.store, cell.key)]
        self._numbers.update({cell.key: n for n, cell in enumerate(cells)})
        for n, cell in enumerate(cells):
            about: dict[str, Any] = {"label": _label(cell, self.plan.suite)}
            is_there = self.store.artefact("latents", cell.key).exists()
            if is_there:
                about["scorers"] = _as_read(self.scores.of_decomposition(cell.key))
                make = partial(self._write_decomposition, n, cell)
                about |= self.earlier.cards(self.folder / str(n), self._sources(cell), make)
            shown.append(about | {"missing": not is_there})
        return shown

    def _sources(self, cell: Cell) -> list[Any]:
        """The names of all that is on the cards of a decomposition."""
        about = [self.plan.of_latents(kind, cell.key) for kind in ("explanation", "scoring")]
        kin = [*self._relatives.below(cell), *self._relatives.above(cell)]
        numbers = [self._numbers[one.key] for one in kin]
        return [numbers, *(left_by(one, self.store) for one in (cell, *about[0], *about[1], *kin))]

    def _write_decomposition(self, n: int, cell: Cell) -> dict[str, Any]:
        content = _read_cards(read_checked(self.store, "latents", cell.key, "cards.json"))
        explained = of_latents(self.plan, self.store, cell.key)
        scores = self.scores.of_poles(cell.key)
        relatives = self._relatives.of(cell)
        (self.folder / str(n)).mkdir()
        listed = []
        for i, card in enumerate(content["cards"]):
            pole = card["index"], card["sign"]
            card["explanations"] = _as_read(explained.get(pole, []))
            card |= {name: self._linked(kin) for name, kin in relatives.get(pole, {}).items()}
            own = _as_read(scores.get(pole, []))
            self._write(f"{n}/{i}", {**card, "scores": own})
            listed.append(_listed(card) | {"scores": {score["scorer"]: score["value"] for score in own}})
        self._write(str(n), listed)
        return {
            **{name: content[name] for name in ("units", "latents", "n_rows", "n_documents", "signed")},
            "n_cards": len(listed),
        }

    def _linked(self, kin: list[Relative]) -> list[Any]:
        """Relatives as the page shows them, each with the number of its list and of its card there, if it has one."""
        shown = ("method", "index", "sign", "weight", "place")
        return [_as_read({name: one[name] for name in shown}) | {"list": self._numbers[one["latents"]]} for one in kin]

    def _write(self, name: str, content: Any) -> None:
        written = self.redaction.text(script_json(content))
        script = f"(window.latents ??= {{}})[{script_json(name)}] = {written};\n"
        (self.folder / f"{name}.js").write_text(script, encoding="utf-8")


def _label(cell: Cell, suite: Suite) -> str:
    method = suite.label("method", cell.columns)
    # Isolated (UAX #9, FSI and PDI): a menu's entry holds no elements, and a right-to-left name must not move the rest.
    named = [f"\u2068{visible(part)}\u2069" for part in (method, cell.columns["model"])]
    return "{} on {} {site}, {fit_tokens:,} tokens, seed {seed}".format(*named, **cell.columns)


def _is_done(store: Store, key: str) -> bool:
    record = store.end(key)
    return record is not None and record.status == "done"


def _read_cards(content: bytes) -> Any:
    """The content of `cards.json` as people read it.

    Every number and every character is changed on the way in: a walk through what was read would take three times as
    long, as there are 30,000 numbers and tokens in the windows of ten cards.
    """
    text = _ESCAPE.sub(lambda match: _visible_escape(match[0]), content.decode("ascii"))
    return json.loads(text, parse_float=_Rounded().__getitem__)


@functools.cache
def _visible_escape(escape: str) -> str:
    """The escape of a character in JSON, or that of the sign that stands for it."""
    return json.dumps(visible(json.loads(f'"{escape}"', strict=False)))[1:-1]


class _Rounded(dict[str, float]):
    """Numbers as people read them, by the way they are written in a file."""

    def __missing__(self, written: str) -> float:
        self[written] = found = _rounded(float(written))
        return found


def _rounded(value: float) -> float:
    """Four digits of a number; without a fraction, it is an integer, which is shorter."""
    rounded = float(f"{value:.4g}")
    return int(rounded) if rounded.is_integer() else rounded


def _as_read(value: Any) -> Any:
    """JSON as people read it: every character visible, numbers to four digits, which makes it a third smaller."""
    if isinstance(value, dict):
        return {name: _as_read(item) for name, item in value.items()}
    if isinstance(value, list):
        return [item if isinstance(item, _AS_IT_IS) else _as_read(item) for item in value]
    if isinstance(value, float):
        return _rounded(value)
    return visible(value) if isinstance(value, str) else value


def _listed(card: Mapping[str, Any]) -> dict[str, Any]:
    """A card's line in the list; `text` is what the filter looks into."""
    lens, source = card["lens"], card["source"] or {}
    tokens = [item["token"] for item in card["top_tokens"]]
    logits = [item["token"] for side in ("promoted", "suppressed") for item in lens.get(side, ())]
    words = [*tokens, *logits, *(source.get(part, "") for part in ("before", "token", "after"))]
    words += [one["text"] or "" for one in card["explanations"]]
    return {**{name: card[name] for name in _LISTED}, "tokens": tokens[:5], "text": " ".join(words).lower()}
