"""The cards of latents as files beside the page: a list for each decomposition, a file for each card.

A page opened from disk may not fetch, but it may load scripts. So each file is one: it puts its JSON under its own name
into the global `latents`, and nothing is loaded before it is asked for.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.latents.explanations import of_latents
from harness.planning.cells import Cell
from harness.planning.plan import Plan
from harness.planning.suite import Suite
from harness.report.scores import Scores
from harness.storage.store import Store
from harness.wording import visible

_LISTED = ("index", "sign", "stratum", "density", "active_share", "n_active", "n_documents", "max")
_MARKUP = re.compile("[<>&\u2028\u2029]")
"""Characters that could end a script or begin a tag, should a file ever be put into a page."""


def script_json(data: Any) -> str:
    """JSON that is safe inside a script, wherever it stands. Numbers must be finite."""
    # ASCII only: escapes also carry lone surrogates, which texts may hold and UTF-8 can't.
    written = json.dumps(data, allow_nan=False, separators=(",", ":"))
    return _MARKUP.sub(lambda match: f"\\u{ord(match[0]):04x}", written)


def write_latents(folder: Path, plan: Plan, store: Store, scores: Scores) -> list[dict[str, Any]]:
    """Write `<n>.js` for each decomposition and `<n>/<i>.js` for each card; return what the page lists of the former.

    Args:
        folder: the folder to make.
        plan: the plan whose cells of kind `latents` are shown.
        store: holds their artefacts; a decomposition whose artefact is gone from the cache is listed without cards.
        scores: the scores of each latent.
    """
    folder.mkdir()
    shown = []
    for n, cell in enumerate(cell for cell in plan.of_kind("latents") if _is_done(store, cell.key)):
        about: dict[str, Any] = {"label": _label(cell, plan.suite)}
        path = store.artefact("latents", cell.key) / "cards.json"
        if path.exists():
            scorers, of_poles = scores.of_latents(cell.key)
            about |= {"scorers": _as_read(scorers)}
            explained = of_latents(plan, store, cell.key)
            content = json.loads(path.read_text())
            for card in content["cards"]:
                card["explanations"] = explained.get((card["index"], card["sign"]), [])
            about |= _write_decomposition(folder, n, content, of_poles)
        shown.append(about | {"missing": not path.exists()})
    return shown


def _label(cell: Cell, suite: Suite) -> str:
    method = suite.label("method", cell.columns)
    # Isolated (UAX #9, FSI and PDI): a menu's entry holds no elements, and a right-to-left name must not move the rest.
    named = [f"\u2068{visible(part)}\u2069" for part in (method, cell.columns["model"])]
    return "{} on {} {site}, {fit_tokens:,} tokens, seed {seed}".format(*named, **cell.columns)


def _is_done(store: Store, key: str) -> bool:
    record = store.end(key)
    return record is not None and record.status == "done"


def _write_decomposition(
    folder: Path, n: int, content: Mapping[str, Any], scores: Mapping[tuple[int, int], Sequence[dict[str, Any]]]
) -> dict[str, Any]:
    (folder / str(n)).mkdir()
    listed = []
    for i, card in enumerate(map(_as_read, content["cards"])):
        own = _as_read(scores.get((card["index"], card["sign"]), []))
        _write(folder / str(n) / f"{i}.js", f"{n}/{i}", {**card, "scores": own})
        listed.append(_listed(card) | {"scores": {score["scorer"]: score["value"] for score in own}})
    _write(folder / f"{n}.js", str(n), listed)
    return {
        **{name: content[name] for name in ("units", "latents", "n_rows", "n_documents", "signed")},
        "n_cards": len(listed),
    }


def _as_read(value: Any) -> Any:
    """A card as people read it: every character visible, numbers to four digits, which makes it a third smaller."""
    if isinstance(value, dict):
        return {name: _as_read(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_as_read(item) for item in value]
    if isinstance(value, float):
        rounded = float(f"{value:.4g}")
        return int(rounded) if rounded.is_integer() else rounded
    return visible(value) if isinstance(value, str) else value


def _listed(card: Mapping[str, Any]) -> dict[str, Any]:
    """A card's line in the list; `text` is what the filter looks into."""
    lens, source = card["lens"], card["source"] or {}
    tokens = [item["token"] for item in card["top_tokens"]]
    logits = [item["token"] for side in ("promoted", "suppressed") for item in lens.get(side, ())]
    words = [*tokens, *logits, *(source.get(part, "") for part in ("before", "token", "after"))]
    words += [one["text"] or "" for one in card["explanations"]]
    return {**{name: card[name] for name in _LISTED}, "tokens": tokens[:5], "text": " ".join(words).lower()}


def _write(path: Path, name: str, content: Any) -> None:
    path.write_text(f"(window.latents ??= {{}})[{script_json(name)}] = {script_json(content)};\n", encoding="ascii")
