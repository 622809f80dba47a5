"""Cells about behaviours: contrasts captured once for a model, and circuits among the latents of all of its sites."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from harness.contracts.sites import parse_site
from harness.planning.cells import Cell
from harness.planning.entries import Entry, ModelEntry
from harness.planning.fits import Fit
from harness.planning.keys import canonical_json, content_key
from harness.planning.suite import Suite


def contrast_cells(suite: Suite) -> Iterator[dict[str, Any]]:
    """The fields of a contrast cell for each model and behaviour, and `inputs`, from which its key is made."""
    for model in suite.models:
        sites = _in_order(site for site in model.sites if not model.lacks(site))
        for behaviour in suite.behaviours if sites else ():
            yield _contrast(suite, model, behaviour, sites)


def _contrast(suite: Suite, model: ModelEntry, behaviour: Entry, sites: list[str]) -> dict[str, Any]:
    about = {"sites": sites, "context": suite.config.context}
    return {
        "inputs": {"model": model.entry.inputs, "behaviour": behaviour.inputs, **about},
        "kind": "contrast",
        "label": f"contrasts of {behaviour.label} in {model.label}",
        "group": content_key({"contrasts of": model.entry.inputs}),
        "work": {"model": model.entry.call, "behaviour": behaviour.call, **about},
        "columns": {
            **{"family": model.family, "model": model.label, "sites": ", ".join(sites)},
            **{"behaviour": behaviour.name, "behaviour_config": canonical_json(dict(behaviour.params))},
            "plugin_version": behaviour.version,
        },
        "skipped": f"{model.label} has rows of its own and runs no texts" if model.has_own_rows else None,
    }


def circuit_cells(contrasts: Sequence[Cell], fits: Iterable[Fit]) -> Iterator[dict[str, Any]]:
    """The fields of a circuit cell for each contrast cell and each method's fits at all sites of its model.

    Fits belong together that agree in method, budget, seed and the draw of their documents.
    """
    together: dict[tuple[str, str, int], list[Fit]] = {}
    for fit in fits:
        together.setdefault((fit.site.model.label, fit.settings, fit.seed), []).append(fit)
    for contrast in contrasts:
        for (model, _, _), alike in together.items():
            if model == contrast.columns["model"]:
                of_site = {fit.site.site: fit for fit in alike}
                yield _circuit(contrast, [of_site[site] for site in contrast.work["sites"]])


def _circuit(contrast: Cell, fits: Sequence[Fit]) -> dict[str, Any]:
    first = fits[0]
    keys = {fit.site.site: fit.cell.key for fit in fits}
    shown: Mapping[str, Any] = contrast.columns
    return {
        "inputs": {"contrast": contrast.key, "fits": list(keys.values()), "seed": first.seed},
        "kind": "circuit",
        "label": f"circuit of {contrast.label.removeprefix('contrasts of ')}: {first.method.label}, "
        f"{first.site.fit_tokens:,} tokens, seed {first.seed}",
        "group": content_key({"circuits of": first.site.model.entry.inputs}),
        "work": {"model": contrast.work["model"], "contrast": contrast.key, "fits": keys, "seed": first.seed},
        "columns": {
            **first.cell.columns,
            **{name: shown[name] for name in ("sites", "behaviour", "behaviour_config")},
            "site": None,
        },
        "upstream": (contrast.key, *keys.values()),
        "skipped": contrast.skipped or next((fit.cell.skipped for fit in fits if fit.cell.skipped), None),
    }


def _in_order(sites: Iterable[str]) -> list[str]:
    """Sites in the order in which a model comes to them."""
    order = ("resid_pre", "attn_z", "attn_out", "mlp_act", "mlp_out", "resid_post")
    return sorted(sites, key=lambda site: (parse_site(site).layer, order.index(parse_site(site).kind)))
