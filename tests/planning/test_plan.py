"""Keys: what a result depends on changes them, and nothing else does."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import harness
from harness.errors import ConfigError
from harness.planning.cells import Cell
from harness.planning.fits import Fit
from harness.planning.keys import canonical_json, content_key
from harness.planning.plan import Plan, _Planner
from harness.plugins.models import planning
from harness.registry.plugin_manager import load_catalog
from harness.report.scores import judged_scorers
from tests.support.toy_suites import model_folder, plan_of, raw_suite


def _keys(plan: Plan) -> set[str]:
    return set(plan.cells)


def _labels(plan: Plan, keys: set[str]) -> set[str]:
    return {plan.cells[key].label for key in keys}


def test_every_cell_once(tmp_path: Path) -> None:
    plan = plan_of(raw_suite(tmp_path))
    n_places, n_methods, n_seeds = 4, 2, 2
    assert len(plan.of_kind("capture")) == n_places * 2
    assert len(plan.of_kind("fit")) == n_places * n_methods * n_seeds
    assert len(plan.of_kind("evaluation")) == len(plan.of_kind("fit"))
    similarities = [cell.columns["similarity"] for cell in plan.of_kind("similarity")]
    assert similarities.count("angle") == n_places * (n_places - 1) // 2
    assert similarities.count("overlap") == n_places * (n_places - 1) // 2 * n_seeds
    place = {key: i for i, key in enumerate(plan.cells)}
    for key, cell in plan.cells.items():
        assert key == cell.key and all(place[upstream] < place[key] for upstream in cell.upstream)


@pytest.mark.parametrize(
    "change",
    [
        {"name": "another"},
        {"device": "cuda"},
        {"max_disk_gb": 3.0},
        {"wandb": {"mode": "disabled", "project": "p"}},
        {"methods": ["atomic", {"k": 8, "method": "dense", "threshold": 0.2}]},  # a default, written out
        {"methods": ["atomic", {"method": "dense", "k": 8}, "atomic"]},  # the same twice
        {"tokens": {"evaluation": 200, "fit": 1000}},
    ],
)
def test_what_results_do_not_depend_on_leaves_keys_as_they_were(tmp_path: Path, change: dict[str, Any]) -> None:
    assert _keys(plan_of(raw_suite(tmp_path, **change))) == _keys(plan_of(raw_suite(tmp_path)))


def test_the_order_of_entries_leaves_keys_as_they_were(tmp_path: Path) -> None:
    raw = raw_suite(tmp_path, similarities=["angle", "overlap", "stability"])
    lists = ("models", "sites", "methods", "similarities", "evaluations", "seeds")
    turned = plan_of(raw | {name: raw[name][::-1] for name in lists})
    assert _keys(turned) == _keys(plan_of(raw))
    for key, cell in plan_of(raw).cells.items():  # and what is a and what is b
        assert turned.cells[key].columns == cell.columns and turned.cells[key].label == cell.label


def test_sites_of_one_model_are_paired_from_early_to_late(tmp_path: Path) -> None:
    plan = plan_of(raw_suite(tmp_path, sites=["resid_post.4", "resid_post.1"]))
    pairs = [cell.columns for cell in plan.of_kind("similarity")]
    inside = {(pair["site"], pair["site_b"]) for pair in pairs if pair["model"] == pair["model_b"]}
    assert inside == {("resid_post.1", "resid_post.4")}


def test_whole_models_are_compared_besides(tmp_path: Path) -> None:
    names = ["angle", "overlap", "stability", {"similarity": "matching", "by": "codes"}]
    raw = raw_suite(tmp_path, similarities=names, tokens={"fit": [50, 1000], "evaluation": 200})
    before, plan = plan_of(raw), plan_of(raw | {"whole_models": True})
    added = [cell for key, cell in plan.cells.items() if key not in before.cells]
    assert _keys(before) < _keys(plan) and len(_labels(plan, _keys(plan))) == len(plan.cells)
    # Of fits only the atoms can be put together, of each budget and seed.
    assert sorted(cell.columns["similarity"] for cell in added) == ["angle", *["overlap"] * 4]
    for cell in added:
        assert cell.columns["site"] == cell.columns["site_b"] == "all 2 sites"
        assert {cell.columns["model"], cell.columns["model_b"]} == {"model-a", "model-b"}
        assert cell.columns.get("seed") == cell.columns.get("seed_b")
        parts = [part for side in "ab" for part in cell.work[side]["sites"]]
        assert set(cell.upstream) == {part[name] for part in parts for name in part if name != "max_norm_multiple"}
    turned = plan_of(raw | {"whole_models": True} | {name: raw[name][::-1] for name in ("models", "sites")})
    assert _keys(turned) == _keys(plan)


def test_a_whole_model_with_a_site_that_it_lacks_is_skipped(tmp_path: Path) -> None:
    raw = raw_suite(tmp_path, sites=["resid_post.1", "resid_post.6"], whole_models=True)
    raw["models"][1]["n_layers"] = 7
    plan = plan_of(raw)
    whole = [cell for cell in plan.of_kind("similarity") if cell.columns["site"] == "all 2 sites"]
    assert whole and all("has 6 blocks, 0 to 5" in str(cell.skipped) for cell in whole)


def test_budgets_are_swept_and_share_what_does_not_depend_on_them(tmp_path: Path) -> None:
    plan = plan_of(raw_suite(tmp_path, tokens={"fit": [1000, 50], "evaluation": 200}))
    large, small = (plan_of(raw_suite(tmp_path, tokens={"fit": n, "evaluation": 200})) for n in (1000, 50))
    methods = {key for key, cell in {**large.cells, **small.cells}.items() if cell.columns.get("similarity") != "angle"}
    angles = {key for key, cell in large.cells.items() if cell.columns.get("similarity") == "angle"}
    assert _keys(plan) == methods | angles  # the budget of representations is the largest: it decides what is masked
    assert [cell.columns["fit_tokens"] for cell in plan.of_kind("fit")] == 4 * [*4 * [50], *4 * [1000]]
    assert len(_labels(plan, _keys(plan))) == len(plan.cells)
    for cell in plan.of_kind("similarity"):
        assert cell.columns.get("fit_tokens") == cell.columns.get("fit_tokens_b")


def test_random_pairings_are_part_of_what_they_are_asked_of(tmp_path: Path) -> None:
    """Similarities of rows, and the tasks that read them; nothing else, and nothing where none are asked for."""
    raw = raw_suite(tmp_path, similarities=["angle", "overlap"], whole_models=True)
    before, plan = plan_of(raw), plan_of(raw | {"permutations": 200})
    assert _keys(plan_of(raw | {"permutations": 0})) == _keys(before)
    changed = [plan.cells[key] for key in _keys(plan) - _keys(before)]
    assert len(plan.cells) == len(before.cells) and {cell.columns["similarity"] for cell in changed} == {"angle"}
    assert len(changed) == 4 * 3 // 2 + 1 and all(cell.work["permutations"] == 200 for cell in changed)
    for words, message in (
        ({"permutations": 18}, "permutations is 18, .*at least 19"),
        ({"permutations": -1}, "permutations is -1"),
        ({"calibrated": True}, "calibrated: permutations is 0"),
    ):
        with pytest.raises(harness.ConfigError, match=message):
            plan_of(raw | words)


def test_seeds_may_draw_documents_of_their_own(tmp_path: Path) -> None:
    """A pass over the model for each seed, which all sites and methods share; all else is captured once."""
    raw = raw_suite(tmp_path, similarities=["angle", "overlap", "stability"])
    order, documents = plan_of(raw), plan_of(raw | {"seeds_vary": "documents"})
    assert _keys(plan_of(raw | {"seeds_vary": "order"})) == _keys(order)
    captures = documents.of_kind("capture")
    n_models, n_sites, n_seeds = 2, 2, 2
    assert len({cell.group for cell in captures}) == n_models * (n_seeds + 1)
    assert len(captures) == n_models * n_sites * (n_seeds + 1)
    assert _labels(documents, _keys(documents) & _keys(order)) == {
        cell.label for cell in order.of_kind("capture") if cell.work["split"] == "evaluation"
    }
    by_key = {cell.key: cell for cell in captures}
    for fit in documents.of_kind("fit"):
        assert (
            by_key[fit.work["capture"]].work["draw"] == by_key[fit.work["capture"]].columns["seed"] == fit.work["seed"]
        )
    for kind in ("fit", "evaluation", "similarity"):
        labels = [sorted(cell.label for cell in plan.of_kind(kind)) for plan in (order, documents)]
        assert labels[0] == labels[1], kind
    assert len(_labels(documents, _keys(documents))) == len(documents.cells)
    turned = plan_of(raw | {"seeds_vary": "documents", "seeds": raw["seeds"][::-1]})
    assert _keys(turned) == _keys(documents)
    more = plan_of(raw | {"seeds_vary": "documents", "seeds": [*raw["seeds"], 9]})
    assert _keys(documents) < _keys(more)


def _scored_suite(tmp_path: Path, **changes: Any) -> dict[str, Any]:
    encoder = {"model": "toy", "path": model_folder(tmp_path / "e", "e"), "label": "encoder"}
    scored: dict[str, Any] = {"tokens": {"fit": 1000, "evaluation": 200, "interp": 300}, "encoder": encoder}
    scored["scorers"] = ["lookup", "retrieval", "provenance"]
    return raw_suite(tmp_path, **scored | changes)


def test_the_cells_of_a_kind_come_together(tmp_path: Path) -> None:
    """The rest of a group, whatever is done, never waits for a group that is listed after it."""
    kinds = [cell.kind for cell in plan_of(_scored_suite(tmp_path)).cells.values()]
    assert [kind for kind, _ in itertools.groupby(kinds)] == list(dict.fromkeys(kinds))


def test_latents_are_read_on_documents_of_their_own_and_scored(tmp_path: Path) -> None:
    plan, unscored = plan_of(_scored_suite(tmp_path)), plan_of(raw_suite(tmp_path))
    assert _keys(unscored) < _keys(plan)  # looking at latents makes nothing stale
    captures = {cell.key: cell.work["split"] for cell in plan.of_kind("capture")}
    assert len(plan.of_kind("latents")) == len(plan.of_kind("fit"))
    for cell in plan.of_kind("latents"):
        assert captures[cell.work["capture"]] == "interp" and captures[cell.work["fit_capture"]] == "fit"
    for cell in plan.of_kind("scoring"):
        asks = cell.columns["scorer"] != "lookup"
        assert (cell.columns["judge"] == "encoder") == asks == (cell.work["encoder"] is not None)
        lacks_atoms = cell.columns["scorer"] == "provenance" and cell.columns["method"] == "dense"
        assert cell.skipped == ("provenance needs atoms, which dense lacks" if lacks_atoms else None)


def test_another_encoder_makes_stale_the_scores_that_asked_it(tmp_path: Path) -> None:
    before = plan_of(_scored_suite(tmp_path))
    after = plan_of(_scored_suite(tmp_path, encoder={"model": "toy", "path": model_folder(tmp_path / "f", "f")}))
    lost = {before.cells[key].columns["scorer"] for key in _keys(before) - _keys(after)}
    assert lost == {"retrieval", "provenance"}


def test_a_judge_is_part_of_the_scores_that_ask_it_and_of_no_others(tmp_path: Path) -> None:
    scorers = ["lookup", "retrieval", "asking"]
    plans = [
        plan_of(_scored_suite(tmp_path, scorers=scorers, judge=judge, device=device))
        for judge, device in (("chooser", "cpu"), ("chooser", "cuda"), ({"judge": "chooser", "size": 2}, "cpu"))
    ]
    judges = {cell.columns["scorer"]: cell.columns["judge"] for cell in plans[0].of_kind("scoring")}
    assert judges == {"lookup": None, "retrieval": "encoder", "asking": "chooser"}
    assert {cell.columns["judge"] for cell in plans[2].of_kind("scoring")} == {None, "encoder", "chooser(size=2)"}
    assert _keys(plans[0]) == _keys(plans[1])  # whatever it runs on
    lost = {plans[0].cells[key].columns["scorer"] for key in _keys(plans[0]) - _keys(plans[2])}
    assert lost == {"asking"}
    unjudged = plan_of(_scored_suite(tmp_path, scorers=scorers[:2]))
    assert _keys(unjudged) < _keys(plans[0])  # a judge makes nothing stale
    assert _keys(plan_of(_scored_suite(tmp_path, scorers=scorers[:2], judge="talker"))) == _keys(unjudged)


def test_a_judge_that_is_the_encoder_is_part_of_the_scores_that_ask_for_embeddings(tmp_path: Path) -> None:
    scorers = ["lookup", "retrieval", "asking"]
    suites: list[dict[str, Any]] = [
        {"encoder": "judge", "judge": "embedder"},
        {"encoder": "judge", "judge": {"judge": "embedder", "size": 2}},
        {"judge": "embedder"},
    ]
    by_judge, by_another, by_encoder = (plan_of(_scored_suite(tmp_path, scorers=scorers, **suite)) for suite in suites)
    lost = {by_judge.cells[key].columns["scorer"] for key in _keys(by_judge) - _keys(by_another)}
    assert lost == {"retrieval", "asking"}
    new = {by_judge.cells[key].columns["scorer"] for key in _keys(by_judge) - _keys(by_encoder)}
    assert new == {"retrieval"}  # what asks for no embeddings is the same whoever embeds
    scoring = by_judge.of_kind("scoring")
    assert {(cell.columns["scorer"], cell.columns["judge"]) for cell in scoring} == {
        ("lookup", None),
        ("retrieval", "embedder"),
        ("asking", "embedder"),
    }
    for cell in scoring:
        assert cell.work["encoder"] == ("judge" if cell.columns["scorer"] == "retrieval" else None)
        assert ("judge" in cell.work) == (cell.columns["scorer"] != "lookup")
    assert {name for name, _ in judged_scorers(by_judge)} == {"asking"}  # "judge too weak" is not said of an encoder
    apart = {(cell.columns["scorer"], cell.group) for cell in scoring}  # a group has one encoder
    assert not {group for name, group in apart if name == "retrieval"} & {g for name, g in apart if name == "asking"}


def test_a_judge_that_nobody_asks_to_embed_need_not(tmp_path: Path) -> None:
    plan = plan_of(_scored_suite(tmp_path, scorers=["lookup", "asking"], encoder="judge", judge="chooser"))
    assert _keys(plan) == _keys(plan_of(_scored_suite(tmp_path, scorers=["lookup", "asking"], judge="chooser")))


def test_scorers_that_need_explanations_are_asked_with_each_explainers(tmp_path: Path) -> None:
    scorers = ["lookup", "reading"]
    one = plan_of(_scored_suite(tmp_path, scorers=scorers, explainers=["rule"]))
    two = plan_of(_scored_suite(tmp_path, scorers=scorers, explainers=["author", "rule"], judge="talker"))
    other = plan_of(_scored_suite(tmp_path, scorers=scorers, explainers=["rule"]), rule=2)
    assert _keys(one) < _keys(two)  # another explainer makes nothing stale
    assert {one.cells[key].columns.get("scorer") for key in _keys(one) - _keys(other)} == {None, "reading"}
    assert len(two.of_kind("explanation")) == 2 * len(two.of_kind("latents"))
    found = {(cell.columns["scorer"], cell.columns["explainer"]) for cell in two.of_kind("scoring")}
    assert found == {("lookup", None), ("reading", "rule"), ("reading", "author by talker")}
    assert len({cell.label for cell in two.cells.values()}) == len(two.cells)
    for cell in two.of_kind("scoring"):
        if explanation := cell.work.get("explanation"):
            assert explanation in cell.upstream
            assert two.cells[explanation].columns["explainer"] == cell.columns["explainer"]
            assert two.cells[explanation].work["latents"] == cell.work["latents"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"scorers": ["reading"]}, "explainers: missing; reading needs explanations. Name some of: author, rule."),
        ({"explainers": ["author"]}, "judge: missing; author needs one that provides 'generate'. Set judge=talker."),
        ({"explainers": ["author"], "judge": "chooser"}, "chooser lacks 'generate', which author needs. Set judge=t"),
        ({"scorers": ["asking"]}, "judge: missing; asking needs one that provides 'choose'. Set judge=chooser."),
        ({"scorers": ["asking", "writing"], "judge": "chooser"}, "chooser lacks 'generate', which writing needs. Set "),
        ({"scorers": ["asking"], "judge": "choser"}, "unknown judge 'choser'. Did you mean 'chooser'"),
        ({"scorers": ["asking"], "judge": {"judge": "chooser", "size": [1, 2]}}, "one judge per suite"),
        ({"tokens": {"fit": 1000, "evaluation": 200}}, "scorers: tokens.interp is 0"),
        ({"encoder": None}, "encoder: missing; retrieval asks for embeddings"),
        ({"encoder": "nobody"}, "encoder: unknown model 'nobody'"),
        (
            {"encoder": "judge"},
            "judge: missing; .* needs one that provides 'embed'. Set judge=embedder. Or set encoder=",
        ),
        (
            {"encoder": "judge", "judge": "chooser"},
            "judge: chooser lacks 'embed', which .* needs. Set judge=embedder. Or set encoder=minilm-l6: the judge is",
        ),
        ({"encoder": {"preset": "judge"}}, "encoder: unknown model 'judge'"),
        ({"latents": 0}, "latents is 0"),
    ],
)
def test_scores_that_cannot_be_had_are_problems_of_the_suite(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(harness.ConfigError, match=message):
        plan_of(_scored_suite(tmp_path, **changes))


def _depends_on(cell: Cell, plan: Plan) -> set[str]:
    """The kinds and splits of everything that a cell rests on, itself included."""
    own = f"capture {cell.work['split']}" if cell.kind == "capture" else cell.kind
    if cell.kind == "similarity":
        own = str(cell.columns["similarity"])
    return {own}.union(*(_depends_on(plan.cells[key], plan) for key in cell.upstream))


@pytest.mark.parametrize(
    ("change", "stale"),
    [
        ({"context": 64}, {"capture fit", "capture evaluation"}),
        ({"evaluation_share": 0.3}, {"capture fit", "capture evaluation"}),
        ({"interp_share": 0.3}, {"capture fit"}),
        ({"corpus": {"corpus": "texts", "n_documents": 7}}, {"capture fit", "capture evaluation"}),
        ({"dtype": "bfloat16"}, {"capture fit", "capture evaluation"}),
        ({"tokens": {"fit": 999, "evaluation": 200}}, {"capture fit"}),
        ({"tokens": {"fit": 1000, "evaluation": 199}}, {"capture evaluation"}),
        ({"max_norm_multiple": 9.0}, {"fit", "angle"}),
        ({"seeds": [2, 3]}, {"fit"}),
    ],
)
def test_a_change_makes_stale_what_rests_on_it_and_no_more(
    tmp_path: Path, change: dict[str, Any], stale: set[str]
) -> None:
    before, after = plan_of(raw_suite(tmp_path)), plan_of(raw_suite(tmp_path, **change))
    wanted = {key for key, cell in before.cells.items() if _depends_on(cell, before) & stale}
    assert wanted and _keys(before) - _keys(after) == wanted
    assert len(before.cells) == len(after.cells)


def test_a_parameter_makes_stale_its_method_only(tmp_path: Path) -> None:
    methods = ["atomic", {"method": "dense", "k": 8, "threshold": 0.3}]
    before, after = plan_of(raw_suite(tmp_path)), plan_of(raw_suite(tmp_path, methods=methods))
    lost = _labels(before, _keys(before) - _keys(after))
    assert len(lost) == 4 * 2 * 2 and all("dense(k=8) on" in label for label in lost)


@pytest.mark.parametrize(
    ("name", "is_stale"),
    [
        ("atomic", lambda cell: cell.columns.get("method") == "atomic"),
        ("dense", lambda cell: cell.columns.get("method") == "dense"),
        ("overlap", lambda cell: cell.columns.get("similarity") == "overlap"),
        ("angle", lambda cell: cell.columns.get("similarity") == "angle"),
        ("quality", lambda cell: cell.kind == "evaluation"),
        ("toy", lambda cell: True),
        ("texts", lambda cell: True),
        ("own_rows", lambda cell: False),
    ],
)
def test_a_new_version_makes_stale_what_it_had_a_part_in(tmp_path: Path, name: str, is_stale: Any) -> None:
    before, after = plan_of(raw_suite(tmp_path)), plan_of(raw_suite(tmp_path), **{name: 2})
    assert _keys(before) - _keys(after) == {key for key, cell in before.cells.items() if is_stale(cell)}


@pytest.mark.parametrize(
    "addition",
    [
        {"sites": ["resid_post.0", "resid_post.1", "mlp_out.2"]},
        {"methods": [{"method": "dense", "k": [2, 8]}, "atomic"]},
        {"seeds": [0, 5, 1]},
        {"similarities": ["overlap", "angle"], "evaluations": ["quality"]},
    ],
)
def test_an_addition_leaves_the_other_keys_as_they_were(tmp_path: Path, addition: dict[str, Any]) -> None:
    assert _keys(plan_of(raw_suite(tmp_path))) <= _keys(plan_of(raw_suite(tmp_path, **addition)))


def test_a_folder_may_move_and_a_label_change_but_not_the_contents(tmp_path: Path) -> None:
    before = _keys(plan_of(raw_suite(tmp_path)))
    raw = raw_suite(tmp_path)
    raw["models"][0] |= {"path": model_folder(tmp_path / "elsewhere", "a"), "label": "zebra", "family": "animals"}
    assert _keys(plan_of(raw)) == before
    model_folder(tmp_path / "elsewhere", "a, retrained")
    changed = plan_of(raw)
    assert not any(cell.columns.get("model") == "zebra" for key, cell in changed.cells.items() if key in before)
    assert all(cell.columns["model"] == "zebra" for cell in changed.of_kind("fit") if cell.key not in before)


def test_rows_of_ones_own_depend_on_no_corpus(tmp_path: Path) -> None:
    own = [{"model": "own_rows", "label": "own"}]
    before = plan_of(raw_suite(tmp_path, models=own))
    assert before.cells
    for change in ({"context": 7}, {"corpus": {"corpus": "texts", "n_documents": 3}}):
        assert _keys(plan_of(raw_suite(tmp_path, models=own, **change))) == _keys(before)


def test_decompositions_are_compared_where_method_and_seed_are_equal_and_have_what_is_needed(tmp_path: Path) -> None:
    methods = [{"method": "atomic", "k": [2, 4]}, "dense"]
    plan = plan_of(raw_suite(tmp_path, methods=methods))
    pairs = [cell.columns for cell in plan.of_kind("similarity") if cell.columns["similarity"] == "overlap"]
    assert len(pairs) == 6 * 2 * 2  # pairs of places, k, seeds
    for pair in pairs:
        assert pair["method"] == pair["method_b"] == "atomic"
        assert pair["method_config"] == pair["method_config_b"] and pair["seed"] == pair["seed_b"]
        assert (pair["model"], pair["site"]) != (pair["model_b"], pair["site_b"])


def test_codes_are_compared_between_places_and_between_seeds_on_the_evaluation_rows(tmp_path: Path) -> None:
    by = [{"similarity": "matching", "by": ["codes", "dictionary"]}, "angle"]
    plan = plan_of(raw_suite(tmp_path, similarities=by, tokens={"fit": [50, 1000], "evaluation": 200}))
    cells = [cell for cell in plan.of_kind("similarity") if cell.columns["similarity_config"] == '{"by":"codes"}']
    n_pairs, n_places, n_methods, n_budgets, n_seeds = 6, 4, 2, 2, 2
    assert len(cells) == (n_pairs * n_seeds + n_places) * n_methods * n_budgets
    assert len({cell.key for cell in cells}) == len(cells)
    for cell in cells:
        sides = [tuple(cell.columns[f"{name}{b}"] for name in ("model", "site")) for b in ("", "_b")]
        seeds = [cell.columns["seed"], cell.columns["seed_b"]]
        assert (sides[0] == sides[1]) != (seeds[0] == seeds[1])
        for name in ("method", "method_config", "fit_tokens"):
            assert cell.columns[name] == cell.columns[f"{name}_b"]
        for side, place in zip("ab", sides, strict=True):
            fit, capture, fit_capture = (plan.cells[cell.work[side][x]] for x in ("fit", "capture", "fit_capture"))
            assert (capture.columns["split"], fit_capture.columns["split"]) == ("evaluation", "fit")
            assert fit_capture.key in fit.upstream and {fit.key, capture.key, fit_capture.key} <= set(cell.upstream)
            assert {(x.columns["model"], x.columns["site"]) for x in (fit, capture)} == {place}
    of_seeds = [cell for cell in plan.of_kind("similarity") if "dictionary" in cell.columns["similarity_config"]]
    assert len(of_seeds) == n_places * n_budgets  # of the one method that has a dictionary
    plan = plan_of(raw_suite(tmp_path, similarities=[{"similarity": "matching", "by": "codes"}], seeds=[0]))
    assert len(plan.of_kind("similarity")) == n_pairs * n_methods


def test_only_fits_that_may_be_compared_meet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Most pairs of thousands of fits are of two methods, or of one that no similarity takes."""
    met: list[tuple[str, str]] = []
    whole = _Planner.compared_by

    def counted(planner: _Planner, a: Fit, b: Fit) -> set[str]:
        met.append((a.name, b.name))
        return whole(planner, a, b)

    monkeypatch.setattr(_Planner, "compared_by", counted)
    methods = [{"method": "atomic", "k": [2, 4]}, "dense"]
    plan = plan_of(raw_suite(tmp_path, methods=methods, similarities=["overlap", "angle"]))
    n_fits = 4 * 2  # of each k, at four places with two seeds
    assert len(met) == 2 * n_fits * (n_fits + 1) // 2
    firsts = [name.split(" on ")[0] for name in dict.fromkeys(a for a, _ in met)]
    assert firsts == [plan.suite.methods[0].label, plan.suite.methods[1].label] * n_fits  # in the order of places
    met.clear()
    plan_of(raw_suite(tmp_path, methods=methods, similarities=["angle"]))
    assert not met


def test_cells_share_work_where_they_share_a_pass_or_rows(tmp_path: Path) -> None:
    plan = plan_of(raw_suite(tmp_path))
    n_groups = {kind: len({cell.group for cell in plan.of_kind(kind)}) for kind in ("capture", "fit", "evaluation")}
    assert n_groups == {"capture": 2 * 2, "fit": 4, "evaluation": 4}  # models x splits, places
    for kind in ("capture", "fit"):
        for cell in plan.of_kind(kind):
            same = [other for other in plan.of_kind(kind) if other.group == cell.group]
            own = {"site"} if kind == "capture" else {"method", "seed"}
            works = [{name: value for name, value in other.work.items() if name not in own} for other in same]
            assert all(work == works[0] for work in works)


def test_comparisons_of_rows_share_work_where_they_are_of_the_same_families(tmp_path: Path) -> None:
    families = {"a": "one", "b": "other", "c": "one"}
    models = [
        {"model": "toy", "path": model_folder(tmp_path / name, name), "label": name, "family": family}
        for name, family in families.items()
    ]
    plan = plan_of(raw_suite(tmp_path, models=models, similarities=["angle"], whole_models=True))
    cells = plan.of_kind("similarity")
    of_group: dict[str, set[frozenset[str]]] = {}
    for cell in cells:
        of_group.setdefault(cell.group, set()).add(frozenset((cell.columns["family"], cell.columns["family_b"])))
    assert sorted(map(len, of_group.values())) == [1, 1, 1] and len(set.union(*of_group.values())) == 3
    assert any(cell.columns["site"] == "all 2 sites" for cell in cells)
    pairs = [(cell.columns["model"], cell.columns["model_b"]) for cell in cells]
    assert len(list(itertools.groupby(pairs[:-3]))) == 6  # model by model, and then three pairs of whole models


def test_a_site_too_deep_is_skipped_with_all_that_rests_on_it(tmp_path: Path) -> None:
    raw = raw_suite(tmp_path, sites=["resid_post.5", "resid_post.6"])
    raw["models"][1]["n_layers"] = 7
    plan = plan_of(raw)
    skipped = {cell.label for cell in plan.cells.values() if cell.skipped}
    assert skipped == {cell.label for cell in plan.cells.values() if "model-a resid_post.6" in cell.label}
    assert {cell.skipped for cell in plan.cells.values() if "model-a resid_post.6 (" in cell.label} == {
        "model-a has 6 blocks, 0 to 5"
    }


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"max_norm_multiple": float("inf")}, "max_norm_multiple: inf is no finite number"),
        ({"max_disk_gb": float("nan")}, "max_disk_gb: nan is no finite number"),
    ],
)
def test_values_that_a_run_would_trip_over_are_refused_by_the_plan(
    tmp_path: Path, words: dict[str, Any], message: str
) -> None:
    with pytest.raises(harness.ConfigError, match=message):
        plan_of(raw_suite(tmp_path) | words)


def test_a_site_that_no_model_has_is_refused(tmp_path: Path) -> None:
    raw = raw_suite(tmp_path, sites=["resid_post.1", "resid_post.6"])
    with pytest.raises(ConfigError, match=r"sites: no model has resid_post\.6: model-a has 6 blocks, 0 to 5; model-b"):
        plan_of(raw)
    raw["models"].append({"model": "own_rows", "label": "unknown"})  # may have it: its depth is not known yet
    assert plan_of(raw).cells


def test_a_site_that_a_shape_says_is_not_there_is_refused(tmp_path: Path) -> None:
    suite = plan_of(raw_suite(tmp_path, sites=["resid_post.1", "attn_z.1"])).suite  # the shape says nothing of it
    model = replace(suite.models[0], shape={"n_layers": 6, "width": 32, "attn_z": 0, "mlp_act": 128})
    assert model.lacks("attn_z.1") == "model-a has no attn_z" and "6 blocks" in str(model.lacks("attn_z.6"))
    assert model.lacks("mlp_act.1") is None and model.width("mlp_act.1") == 128 and model.width("mlp_out.1") == 32
    assert suite.models[0].lacks("attn_z.1") is None and suite.models[0].width("attn_z.1") is None
    made_up = load_catalog().config("model", "superposition", {})
    assert planning.superposition_shape(made_up)["attn_z"] == 0


@pytest.mark.parametrize(("key", "value"), [("label", 7), ("family", False), ("control_of", 1.0), ("label", "")])
def test_names_that_yaml_took_for_numbers_or_flags_are_refused(tmp_path: Path, key: str, value: object) -> None:
    """`label: 007` would be model 7, and `family: no` none at all."""
    raw = raw_suite(tmp_path)
    raw["models"][1][key] = value
    with pytest.raises(ConfigError, match=rf"models\[1\].{key}: {value!r} is no name; write it in quotes"):
        plan_of(raw)


CODE = """
    import sys
    from pathlib import Path
    from tests.support.toy_suites import plan_of, raw_suite
    print(*plan_of(raw_suite(Path(sys.argv[1]))).cells)
    assert "torch" not in sys.modules
"""


def test_keys_are_the_same_in_every_process_and_need_no_torch(tmp_path: Path) -> None:
    here = list(plan_of(raw_suite(tmp_path)).cells)
    for seed in ("0", "4242"):
        environment = os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": str(Path(__file__).parents[2])}
        command = [sys.executable, "-c", dedent(CODE), str(tmp_path)]
        run = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path)
        assert run.stdout.split() == here, run.stderr


def test_golden_keys(tmp_path: Path) -> None:
    # A change here throws all stored work of all users away. If it is meant, raise STAGE_VERSIONS and say so in
    # docs/changes/.
    plan = plan_of(raw_suite(tmp_path))
    kinds = ("capture", "fit", "evaluation", "similarity")
    assert {kind: plan.of_kind(kind)[0].key for kind in kinds} == {
        "capture": "5b554a063db73ae4f6359445dc1cc3c1",
        "fit": "73397923f2d44f4557bca146b4f2326a",
        "evaluation": "80af27d04fca0452803d0bab28e8ab80",
        "similarity": "031c671ceb82b640452bc76ac243a1b3",
    }


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@given(json_values, json_values)
def test_equal_values_and_only_these_have_equal_keys(one: Any, other: Any) -> None:
    assert (content_key(one) == content_key(other)) == (canonical_json(one) == canonical_json(other))
    if isinstance(one, dict):
        assert content_key(dict(reversed(one.items()))) == content_key(one)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), object(), {1, 2}, b"x", {(1, 2): 3}])
def test_what_has_no_one_spelling_is_refused(value: Any) -> None:
    with pytest.raises((ValueError, TypeError)):
        content_key({"a": value})


def test_values_that_are_alike_have_different_keys() -> None:
    alike = [1, 1.0, "1", True, None, "", [], {}, [1], {"a": None}, 0.1 + 0.2, 0.3]
    assert len({content_key(value) for value in alike}) == len(alike)


def test_keys_do_not_say_whether_rows_are_stored(tmp_path: Path) -> None:
    stored, unstored = (plan_of(raw_suite(tmp_path, store_rows=given)) for given in (True, False))
    assert list(stored.cells) == list(unstored.cells)
    told = [cell for cell in unstored.of_kind("capture") if "store_rows" in cell.work]
    assert {cell.columns["split"] for cell in told} == {"fit"} and len(told) == 4
    # The fits of all sites of a pass learn together.
    assert len({cell.group for cell in unstored.of_kind("fit")}) == 2
    assert len({cell.group for cell in stored.of_kind("fit")}) == 4


def test_rows_that_a_model_brings_along_are_stored(tmp_path: Path) -> None:
    models = [{"model": "own_rows", "label": "own", "sites": ["resid_post.0"]}]
    plan = plan_of(raw_suite(tmp_path, models=models, corpus=None, sites=[], store_rows=False, similarities=[]))
    assert not any("store_rows" in cell.work for cell in plan.of_kind("capture"))
    assert not any("source" in cell.work for cell in plan.of_kind("fit"))


def test_how_far_rows_are_shuffled_is_part_of_the_keys_of_fits(tmp_path: Path) -> None:
    plans = [plan_of(raw_suite(tmp_path, shuffle_characters=given)) for given in (None, 1000, 2000)]
    for kind, n_keys in (("capture", 1), ("fit", 3)):
        keys = [{cell.key for cell in plan.of_kind(kind)} for plan in plans]
        assert len({frozenset(own) for own in keys}) == n_keys


@pytest.mark.parametrize(
    ("wandb", "name"),
    [
        ({"project": "a/b"}, "s"),
        ({"project": ""}, "s"),
        ({"project": "x" * 129}, "s"),
        ({"project": "a\nb"}, "s"),
        ({"entity": "100%"}, "s"),
        ({}, "x" * 121),
    ],
)
def test_names_that_wandb_would_refuse_are_refused_when_planning(
    tmp_path: Path, wandb: dict[str, str], name: str
) -> None:
    with pytest.raises(ConfigError, match="W&B takes"):
        plan_of(raw_suite(tmp_path) | {"name": name, "wandb": {"mode": "offline"} | wandb})
    plan_of(raw_suite(tmp_path) | {"name": name, "wandb": {"mode": "disabled"}})
    plan_of(raw_suite(tmp_path) | {"name": "s", "wandb": {"project": "Модели und Größen"}})
