"""The cards of latents as files beside the page: a list for each decomposition, a file for each card.

A page opened from disk may not fetch, but it may load scripts. So each file is one: it puts its JSON under its own name
into the global `latents`, and nothing is loaded before it is asked for.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from harness.plan import Plan
from harness.report.sheets import Labels
from harness.store import Store

_LISTED = ("index", "sign", "stratum", "density", "n_active", "n_documents", "max")
_MARKUP = re.compile("[<>&\u2028\u2029]")
"""What could end a script or begin a tag, should a file ever be put into a page."""


def script_json(data: Any) -> str:
    """JSON that is safe inside a script, wherever it stands; `null` for what is no number."""
    # ASCII only: escapes also carry lone surrogates, which texts may hold and UTF-8 can't.
    return _MARKUP.sub(lambda match: f"\\u{ord(match[0]):04x}", json.dumps(data, allow_nan=False))


def write_latents(
    folder: Path, plan: Plan, store: Store, interp: pd.DataFrame, metrics: Mapping[str, str], labels: Labels
) -> list[dict[str, Any]]:
    """Write `<n>.js` and `<n>/<i>.js`; returns what the page has to know of each decomposition.

    Args:
        folder: where to.
        plan: cells of kind `latents` are shown.
        store: their artefacts; one that is gone from the cache is listed without cards.
        interp: scores by latent.
        metrics: the main metric of each scorer, by which latents can be sorted.
        labels: how methods are written.
    """
    folder.mkdir()
    of_cell = {key: cell.task["latents"] for key, cell in plan.cells.items() if cell.kind == "scoring"}
    scored = interp[interp["latent"].notna()].assign(latents=interp["cell"].map(of_cell))
    shown = []
    for n, cell in enumerate(cell for cell in plan.of_kind("latents") if _is_done(store, cell.key)):
        columns = cell.columns
        method = labels[columns["method"], columns["method_config"]]
        what = (
            f"{columns['model']} {columns['site']}: {method}, {columns['fit_tokens']:,} tokens, seed {columns['seed']}"
        )
        path = store.artefact("latents", cell.key) / "cards.json"
        if not path.exists():
            shown.append({"label": what, "missing": True})
            continue
        content = json.loads(path.read_text())
        cards = content.pop("cards")
        own = scored[scored["latents"] == cell.key]
        scores = {unit: lines.to_dict("records") for unit, lines in own.groupby(["latent", "sign"], sort=False)}
        listed = [_write_card(folder, n, i, card, scores, metrics) for i, card in enumerate(cards)]
        _write(folder / f"{n}.js", str(n), listed)
        scorers = [name for name in metrics if name in set(own["scorer"])]
        shown.append({"label": what, **content, "scorers": scorers, "n_cards": len(cards)})
    return shown


def _is_done(store: Store, key: str) -> bool:
    record = store.record(key)
    return record is not None and record.status == "done"


def _write_card(
    folder: Path,
    n: int,
    i: int,
    card: Mapping[str, Any],
    scores: Mapping[Any, list[dict[Any, Any]]],
    metrics: Mapping[str, str],
) -> dict[str, Any]:
    """Returns the card's line in the list."""
    own = scores.get((card["index"], card["sign"]), [])
    (folder / str(n)).mkdir(exist_ok=True)
    _write(folder / str(n) / f"{i}.js", f"{n}/{i}", {**card, "scores": [_score(line) for line in own]})
    lens = card["lens"]
    words = [item["token"] for item in (*card["top_tokens"], *lens.get("promoted", ()), *lens.get("suppressed", ()))]
    return {
        **{name: card[name] for name in _LISTED},
        "tokens": [item["token"] for item in card["top_tokens"][:5]],
        "text": " ".join([*words, *(card["source"] or {}).values()]).lower(),
        "scores": {
            line["scorer"]: line["value"] for line in map(_score, own) if metrics.get(line["scorer"]) == line["metric"]
        },
    }


def _score(line: Mapping[Any, Any]) -> dict[str, Any]:
    names = {"scorer": "scorer", "judge": "judge", "metric": "metric", "value": "value", "chance": "chance"}
    return {name: _plain(line[column]) for name, column in (names | {"reason": "error"}).items()}


def _plain(value: Any) -> Any:
    return None if pd.isna(value) else value


def _write(path: Path, name: str, content: Any) -> None:
    path.write_text(f"(window.latents ??= {{}})[{script_json(name)}] = {script_json(content)};\n", encoding="ascii")
