"""Specs: one class for each kind, whose words are checked when a plugin is loaded."""

from __future__ import annotations

import dataclasses
import sys
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

import harness
from harness.planning.suite import CAPABILITIES
from harness.registry.plugin_manager import Catalog, Registered, load_catalog
from harness.registry.spec_checks import check_spec
from harness.registry.specs import KINDS, SPEC_CLASSES, PluginSpec


def make(kind: str, **fields: Any) -> PluginSpec:
    """A Spec of a kind, by its class."""
    fields = ({"pairs": "acme:pairs"} if kind == "task" else {}) | fields
    fields = ({"config": Of} if kind == "method" and "needs" in fields else {}) | fields
    return SPEC_CLASSES[kind]("acme", 1, "of this test", "acme:Acme", **fields)


def test_each_kind_has_a_public_class_of_its_name() -> None:
    assert set(KINDS) == {spec.kind for spec in harness.catalog()} and len(KINDS) == 10
    for kind, cls in SPEC_CLASSES.items():
        assert getattr(harness, f"{kind.capitalize()}Spec") is cls and issubclass(cls, harness.PluginSpec)
    assert {type(spec) for spec in harness.catalog()} == set(SPEC_CLASSES.values())


@pytest.mark.parametrize("kind", KINDS)
def test_the_older_form_makes_the_same(kind: str) -> None:
    fields: dict[str, Any] = {"config": Words, "identity": "acme:identity"}
    fields |= {"pairs": "acme:pairs"} if kind == "task" else {}
    fields |= {word: (words[0],) for word, words in SPEC_CLASSES[kind].words.items()}
    fields |= {"shape": "acme:shape"} if kind == "model" else {}
    fields |= {"origin": "acme:origin", "config": Of} if kind == "method" else {}
    fields |= {"metrics": (harness.Metric("x", "x", "how much x there is"),)} if kind == "evaluation" else {}
    named = harness.Spec(kind=kind, name="acme", version=1, summary="of this test", factory="acme:Acme", **fields)
    assert named == make(kind, **fields) and named.kind == kind
    config = fields.pop("config")
    assert harness.Spec(kind, "acme", 1, "of this test", "acme:Acme", config, **fields) == named
    check_spec(named)
    assert {field.name for field in dataclasses.fields(named)} == {
        *("name", "version", "summary", "factory"),
        *("config", *fields),
    }


@pytest.mark.parametrize(
    ("kind", "fields", "message"),
    [
        ("method", {"shape": "a:b"}, "Spec method/acme: MethodSpec has no field 'shape'."),
        ("method", {"provide": ("atoms",)}, "MethodSpec has no field 'provide'. Did you mean 'provides'"),
        ("similarity", {"provides": ("atoms",)}, "SimilaritySpec has no field 'provides'."),
        ("evaluation", {"pairs": "a:b"}, "EvaluationSpec has no field 'pairs'."),
        ("corpus", {"needs": ()}, "CorpusSpec has no field 'needs'."),
        ("task", {}, "Spec task/acme: pairs is missing; name a function of the config and two sites"),
        ("methd", {}, "Spec methd/acme: unknown kind 'methd'. Did you mean 'method'?"),
    ],
)
def test_the_older_form_refuses_what_the_kind_has_not(kind: str, fields: dict[str, Any], message: str) -> None:
    with pytest.raises(harness.PluginError) as caught:
        harness.Spec(kind, "acme", 1, "of this test", "acme:Acme", **fields)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "field", "wrong", "near"),
    [
        ("method", "provides", "atom", "'atoms'"),
        ("method", "provides", "dictionnary", "'dictionary'"),
        ("method", "needs", "fits", "'fit'"),
        ("similarity", "needs", "atom", "'atoms'"),
        ("similarity", "needs", "code", "'codes'"),
        ("evaluation", "needs", "dictionnary", "'dictionary'"),
        ("evaluation", "needs", "models", "'model'"),
        ("scorer", "needs", "explanations", "'explanation'"),
        ("scorer", "needs", "chose", "'choose'"),
        ("scorer", "provides", "flor", "'floor'"),
        ("explainer", "needs", "generates", "'generate'"),
        ("judge", "provides", "embedding", "'embed'"),
        ("task", "needs", "value", "'values'"),
        ("model", "provides", "row", "'rows'"),
    ],
)
def test_a_misspelt_word_is_refused_with_the_near_one(kind: str, field: str, wrong: str, near: str) -> None:
    valid = SPEC_CLASSES[kind].words[field]
    check_spec(make(kind, **{field: valid}))
    with pytest.raises(harness.PluginError) as caught:
        check_spec(make(kind, **{field: (valid[0], wrong)}))
    message = str(caught.value)
    assert f"Spec {kind}/acme: {field}: unknown word {wrong!r}. Did you mean {near}" in message
    assert message.endswith(f"Valid: {', '.join(sorted(valid))}.")


def test_a_word_of_another_kind_is_refused() -> None:
    for kind, word in (("explainer", "explanation"), ("similarity", "head"), ("evaluation", "codes")):
        with pytest.raises(harness.PluginError, match=f"Spec {kind}/acme: needs: unknown word '{word}'"):
            check_spec(make(kind, needs=(word,)))


def test_a_word_alone_is_told_how_a_tuple_is_written() -> None:
    for kind, field in (("method", "provides"), ("similarity", "needs")):
        with pytest.raises(harness.PluginError) as caught:
            check_spec(make(kind, **{field: "atoms"}))
        assert "(write ('atoms',), with the comma)" in str(caught.value) and "Did you mean" not in str(caught.value)


@pytest.mark.parametrize("summary", [None, 3])
def test_a_summary_is_a_text(summary: Any) -> None:
    with pytest.raises(harness.PluginError, match=r"Spec method/acme: summary is .*; give one line of text"):
        check_spec(dataclasses.replace(make("method"), summary=summary))


@pytest.mark.parametrize("name", ["cost", "interp", "tasks", "leaderboard"])
def test_an_evaluation_is_not_called_as_another_table(name: str) -> None:
    with pytest.raises(harness.PluginError, match=f"Spec evaluation/{name}: results have a table of that name"):
        check_spec(dataclasses.replace(make("evaluation"), name=name))
    check_spec(dataclasses.replace(make("method"), name=name))


@pytest.mark.parametrize("words", ["atoms", ["atoms"], None])
def test_words_stand_in_a_tuple(words: Any) -> None:
    with pytest.raises(harness.PluginError, match=r"provides is .*; give a tuple of words"):
        check_spec(make("method", provides=words))
    with pytest.raises(harness.PluginError, match=r"needs is .*; give a tuple"):
        check_spec(make("similarity", needs=words))


def test_the_base_of_all_kinds_is_no_spec_of_any() -> None:
    with pytest.raises(harness.PluginError, match=r"is not a harness\.Spec"):
        check_spec(harness.PluginSpec("acme", 1, "of this test", "acme:Acme"))


@dataclass
class Of:
    """Parameters that name another method."""

    of: str


def test_a_method_that_needs_a_fit_has_a_parameter_that_names_it() -> None:
    check_spec(make("method", needs=("fit",)))
    for config in (None, Words):
        with pytest.raises(
            harness.PluginError, match="Spec method/acme: it needs a fit, so its config must have a field"
        ):
            check_spec(make("method", needs=("fit",), config=config))


@dataclass
class Words:
    """Parameters that say what is needed."""

    word: str = "codes"


@pytest.mark.parametrize("how", ["callable", "reference"])
def test_needs_that_depend_on_parameters_are_checked_when_known(how: str) -> None:
    needs = needed if how == "callable" else f"{__name__}:needed"
    spec = make("similarity", config=Words, needs=needs)
    check_spec(spec)
    catalog = Catalog({("similarity", "acme"): Registered(spec, sys.modules[__name__], "here", "1")})
    assert catalog.needs("similarity", "acme", {}) == ("codes",)
    with pytest.raises(
        harness.PluginError, match=r"similarity/acme: needs: unknown word 'atom'\. Did you mean 'atoms'"
    ):
        catalog.needs("similarity", "acme", {"word": "atom"})


def needed(config: Words) -> tuple[str, ...]:
    return (config.word,)


def _raises(*_: Any) -> Any:
    raise ZeroDivisionError("oh")


def _exits(*_: Any) -> Any:
    sys.exit(3)


def _refuses(*_: Any) -> Any:
    raise harness.ConfigError("no such folder; give another")


def _asked(kind: str, field: str, function: Any) -> Any:
    """The answer of a catalog to what it asks the function in a field of a spec."""
    found = Registered(make(kind, **{field: function}), sys.modules[__name__], "acme.py", "1")
    catalog = Catalog({(kind, "acme"): found})
    argument = {} if field == "needs" else catalog.config(kind, "acme", {})
    return getattr(catalog, field)(kind, "acme", argument)


ASKED = [("similarity", "needs"), ("corpus", "identity"), ("model", "shape")]


@pytest.mark.parametrize(("kind", "field"), ASKED)
def test_what_a_spec_is_asked_when_planning_may_fail(kind: str, field: str) -> None:
    for function, told in ((_raises, "ZeroDivisionError: oh"), (_exits, "SystemExit: 3")):
        with pytest.raises(harness.PluginError, match=rf"{kind}/acme \(acme.py\): {field} raised {told}"):
            _asked(kind, field, function)
    with pytest.raises(harness.ConfigError, match=r"^no such folder; give another$"):
        _asked(kind, field, _refuses)  # as the author has put it


@pytest.mark.parametrize(
    ("kind", "field", "answer", "message"),
    [
        ("similarity", "needs", None, "Spec similarity/acme: needs is None; give a tuple of words"),
        ("similarity", "needs", "codes", r"needs is 'codes'; .*write \('codes',\)"),
        ("corpus", "identity", {"a": object()}, r"corpus/acme \(acme.py\): identity gave .*; give JSON"),
        ("corpus", "identity", {"a": float("nan")}, r"corpus/acme \(acme.py\): identity gave .*; give JSON"),
        ("model", "shape", (6, 32), r"model/acme \(acme.py\): shape gave \(6, 32\); give {'n_layers'"),
        ("model", "shape", {"n_layers": 6}, r"shape gave {'n_layers': 6}; give"),
        ("model", "shape", {"n_layers": 6, "width": "32"}, r"shape gave .*; give {'n_layers'"),
    ],
)
def test_what_a_spec_answers_when_planning_is_checked(kind: str, field: str, answer: Any, message: str) -> None:
    with pytest.raises(harness.PluginError, match=message):
        _asked(kind, field, lambda config: answer)


def test_good_answers_of_a_spec_are_given_on() -> None:
    for kind, field, answer in (
        ("similarity", "needs", ("codes",)),
        ("corpus", "identity", {"sha256": ["a", 1, None]}),
        ("model", "shape", {"n_layers": 6, "width": 32}),
        ("model", "shape", None),
    ):
        assert _asked(kind, field, lambda config, answer=answer: answer) == answer
    assert (
        Catalog({("model", "acme"): Registered(make("model"), sys.modules[__name__], "", "1")}).shape(
            "model", "acme", None
        )
        is None
    )


OF_EACH_KIND = """
    import harness

    @harness.hookimpl
    def harness_specs():
        return [
            harness.MethodSpec("acme", 1, "x", "acme:A", provides=("atoms", "dictionary")),
            harness.SimilaritySpec("acme", 1, "x", "acme:A", needs=("codes",)),
            harness.ScorerSpec("acme", 1, "x", "acme:A", needs=("choose", "explanation"), provides=("floor",)),
            harness.ExplainerSpec("acme", 1, "x", "acme:A", needs=("generate", "model")),
            harness.JudgeSpec("acme", 1, "x", "acme:A", provides=("choose", "generate", "likelihood", "embed")),
            harness.TaskSpec("acme", 1, "x", "acme:A", pairs=lambda config, a, b: True, needs=("values",)),
            harness.EvaluationSpec("acme", 1, "x", "acme:A", needs=("model", "labels", "atoms")),
            harness.ModelSpec("acme", 1, "x", "acme:A", shape="acme:shape", provides=("rows",)),
            harness.CorpusSpec("acme", 1, "x", "acme:A", identity="acme:identity"),
            harness.BehaviourSpec("acme", 1, "x", "acme:A", identity="acme:identity"),
        ]
"""


def test_a_plugin_of_every_kind_is_loaded(tmp_path: Path) -> None:
    (tmp_path / "acme.py").write_text(dedent(OF_EACH_KIND))
    catalog = load_catalog((str(tmp_path / "acme.py"),), entry_points=False)
    assert catalog.problems == []
    assert [kind for kind in KINDS if "acme" in catalog.names(kind)] == list(KINDS)
    assert catalog.needs("explainer", "acme", {}) == ("generate", "model")
    assert catalog.needs("corpus", "acme", {}) == () == catalog.find("corpus", "acme").spec.provides


def test_a_misspelt_word_is_a_problem_of_its_file(tmp_path: Path) -> None:
    (tmp_path / "acme.py").write_text(dedent(OF_EACH_KIND).replace("codes", "code"))
    (problem,) = load_catalog((str(tmp_path / "acme.py"),), entry_points=False).problems
    assert "acme.py: Spec similarity/acme: needs: unknown word 'code'. Did you mean 'codes'?" in problem


@pytest.mark.parametrize("kind", KINDS)
def test_every_word_is_explained_where_its_class_is(kind: str) -> None:
    written = str(SPEC_CLASSES[kind].__doc__)
    for field, words in SPEC_CLASSES[kind].words.items():
        assert f"`{field}`" in written
        assert [word for word in words if f'`"{word}"`' not in written] == []


def test_the_judge_can_be_asked_what_scorers_and_explainers_may_need() -> None:
    for kind in ("scorer", "explainer"):
        assert set(CAPABILITIES) <= set(SPEC_CLASSES[kind].words["needs"])
