"""A finished suite without a model behind it: records and cards as stages would have left them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from harness.planning.cells import Cell
from harness.planning.plan import Plan
from harness.report.page import write_report
from harness.storage.records import Record, cost, row
from harness.storage.store import Store
from harness.tables.interpretability import SHARES
from harness.tables.results import Results
from harness.tables.verdicts import write_cell
from tests.support.toy_suites import model_folder, plan_of, raw_suite

LONE_SURROGATE = "\ud800"  # half a character, as cutting up text may leave it; tables can't hold one
HOSTILE = "<script>alert(1)</script>\"'</script><img src=x onerror=alert(2)>]]>\u2028&amp;\u202ecba\u200b"
PROVENANCE = {
    "device": "cpu",
    "harness_version": "0.1.0",
    "git_sha": "abc",
    "created_at": "2026-01-02T03:04:05+00:00",
    "versions": {"python": "3.12.1", "torch": "2.11.0"},
}
TEXT = "The river bank was steep , and the bank of the town lent money to nobody"
N_DOCUMENTS = 30
N_SCORED = 16


def finished(folder: Path, hostile: str = "", n_cards: int = 6, judge: str | None = None) -> tuple[Plan, Store]:
    """Every cell done but one that failed and one metric that is undefined; `hostile` is put wherever text comes from
    outside: labels, errors, tokens, documents. A judge, if one is named, is asked by a scorer more and guesses.
    """
    raw = raw_suite(
        folder,
        tokens={"fit": 1000, "evaluation": 200, "interp": 300},
        methods=[{"method": "atomic", "k": [2, 4]}, {"method": "dense", "k": 8}],
        scorers=["lookup", "retrieval", *(["asking"] if judge else [])],
        **({"judge": judge} if judge else {}),
        encoder={"model": "toy", "path": model_folder(folder / "e", "e"), "label": "encoder"},
        sites=["resid_post.1"],
    )
    raw["models"][0]["label"] = "model-a" + hostile
    plan, store = plan_of(raw), Store(folder / "results" / "example", folder / "cache")
    doomed = plan.of_kind("fit")[-1]
    generator = np.random.default_rng(0)
    for cell in plan.cells.values():
        if cell is doomed:
            store.write_record(
                cell.key, Record("failed", "ValueError", f"no luck {hostile * 30}", provenance=PROVENANCE)
            )
            continue
        rows, verdicts = _rows(cell, plan, generator, hostile), None
        if cell.kind == "latents":
            work = store.work_folder("latents", cell.key)
            work.mkdir(parents=True)
            (work / "cards.json").write_text(
                json.dumps(cards(n_cards, generator, hostile and hostile + LONE_SURROGATE))
            )
            store.commit("latents", cell.key, {})
        if cell.kind == "scoring":
            verdicts = write_cell(store, cell.key, _verdicts(str(cell.columns["scorer"]), hostile))
        store.write_record(cell.key, Record("done", rows=rows, provenance=PROVENANCE, verdicts=verdicts))
    return plan, store


def report_of(plan: Plan, store: Store) -> Path:
    """Its report."""
    return write_report(plan, store, Results.of(plan, store))


def cards(n: int, generator: np.random.Generator, hostile: str = "") -> dict[str, Any]:
    """Cards of n units of a signed decomposition, in the form of the artefact."""
    units = {"total": 512, "dead": 128, "rare": 32, "no_contrast": 32, **{f"density_{i}": 80 for i in range(1, 5)}}
    made = [_card(i, generator, hostile) for i in range(n)]
    latents = {"total": 256, "dead": 16, "rare": 8, "no_contrast": 8}
    return {
        "units": units,
        "latents": latents,
        "n_rows": 300,
        "n_documents": N_DOCUMENTS,
        "signed": True,
        "cards": made,
    }


def _card(i: int, generator: np.random.Generator, hostile: str) -> dict[str, Any]:
    tokens = [f" {word}" for word in TEXT.split()] + ["\n", hostile]
    windows = [_window(tokens, generator, sample) for sample in ("top", "quantile", "random", "silent", "silent")]
    logits = [{"token": token, "logit": 2.5 - j} for j, token in enumerate(tokens[:5])]
    return {
        "index": 7 * i,
        "sign": -1 if i % 2 else 1,
        "stratum": f"density_{1 + i % 4}",
        "weight": 12.5,
        "threshold": 0.5,
        "active_share": 0.001,
        "density": 0.001 * (n_active := 1 + (5 * i) % 11),
        "max": 9.0,
        "n_active": n_active,
        "n_documents": 3,
        "histogram": {"edges": np.linspace(0.5, 9, 21).tolist(), "counts": [2 ** (10 - j // 2) for j in range(20)]},
        "top_tokens": [{"token": token, "n_active": 3, "n": 4, "mean": 3.2} for token in (f" word{i}", *tokens[-3:])],
        "lens": {"promoted": logits, "suppressed": logits} if i % 2 else {"reason": f"no head {hostile}"},
        "nearest": [{"index": 7, "cosine": 0.61}, {"index": 500, "cosine": -0.5}] if i else [],
        "source": {"document": f"d{hostile}", "before": "by the ", "token": f"river{hostile}", "after": " bank"},
        "explain": windows,
        "test": windows,
    }


def _window(tokens: list[str], generator: np.random.Generator, sample: str) -> dict[str, Any]:
    shown = [*tokens * 2][: 32 if sample != "top" else 20] + tokens[-1:]
    is_active = sample != "silent"
    values = np.where(generator.random(len(shown)) < 0.2, 9 * generator.random(len(shown)), 0) * is_active
    return {
        "document": f"doc-{tokens[-1]}",
        "tokens": shown,
        "activations": values.tolist(),
        "is_active": is_active,
        "sample": sample,
    }


def _rows(cell: Cell, plan: Plan, generator: np.random.Generator, hostile: str) -> list[dict[str, Any]]:
    if cell.kind == "capture":
        return [cost("capture_seconds", 7.0, 100), cost("capture_disk_bytes", 3.2e6, 100)]
    if cell.kind == "fit":
        return [cost("fit_seconds", 1 + 9 * generator.random(), 100), cost("parameters", 4096, 100)]
    if cell.kind == "similarity":
        return [
            row("similarity", "similarity", 0.6, 200, True),
            row("similarity", "null_shuffled_rows", 0.1, 200, True),
        ]
    if cell.kind == "latents":
        return [row("interp", name, 0.25 if "dead" in name else 0.125, 512, None) for name in SHARES]
    if cell.kind == "scoring":
        return _scores(str(cell.columns["scorer"]), generator, hostile)
    return _quality(cell, plan, generator, hostile)


def _scores(scorer: str, generator: np.random.Generator, hostile: str) -> list[dict[str, Any]]:
    """Scores of all units but the last; the floor's rise evenly."""
    rows = []
    for i in range(N_SCORED):
        unit = {"latent": 7 * i, "sign": -1 if i % 2 else 1, "stratum": f"density_{1 + i % 4}", "weight": 12.5}
        value = 0.5 + (0 if scorer == "asking" else 0.02 * i)
        value += 0 if scorer == "lookup" else 0.05 * generator.standard_normal()
        main = row("interp", "auroc", value, 40, True)
        if i == N_SCORED - 1:
            main = row("interp", "auroc", None, 0, True, f"too few windows {hostile}")
        control = row("interp", "auroc_random_explanation", 0.5 + 0.02 * generator.standard_normal(), 40, None)
        rows += [main | unit | {"chance": 0.5}, control | unit]
        if scorer == "retrieval":
            rows.append(row("interp", "kinds", 1 + i / 10, 40, None) | unit | {"lowest": 1.0})
    return rows


def _verdicts(scorer: str, hostile: str) -> list[dict[str, Any]]:
    """Verdicts on the five test windows of each unit: right, right, wrong; of silent ones none, and two at once."""
    said = [(True, True), (True, True), (True, False), (False, None), (False, False), (False, True)]
    rows = []
    for i in range(N_SCORED - 1 if scorer == "retrieval" else 0):
        for place, (label, says) in enumerate(said):
            row = {"latent": 7 * i, "sign": -1 if i % 2 else 1, "window": min(place, 4), "label": label, "says": says}
            asked = {"score": place + 0.5} if says is not None else {"reason": f"HTTP 500 {hostile}"}
            rows.append({**row, **asked, "shown": f"a <<mark>> {hostile}" if place == 5 else None})
    return rows


def _quality(cell: Cell, plan: Plan, generator: np.random.Generator, hostile: str) -> list[dict[str, Any]]:
    k = int(plan.cells[cell.work["fit"]].work["method"]["params"]["k"])
    explained = 1 - 1 / (1 + k) + 0.02 * generator.standard_normal(N_DOCUMENTS)
    sums = {"numerator": explained.tolist(), "denominator": [1.0] * N_DOCUMENTS}
    return [
        row("quality", "explained_variance", float(explained.mean()), 200, True) | {"documents": sums},
        row("quality", "l0", float(k), 200, None),
        row("quality", "ce_increase", 2.0 / k, 190, False),
        row("quality", "loss_recovered", None, 0, True, f"the model has no head {hostile}"),
    ]
