"""The scoring stage: what scorers get, what they cost each other, and what ends up in the table."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pandas as pd
import pytest
import torch

import harness
from harness.asking.embedding import unit_rows
from harness.planning.cells import Cell
from harness.planning.suite import JudgeBudget
from harness.registry.plugin_manager import Catalog, Registered
from harness.running.session import Session
from harness.stages import explanation, scoring
from harness.storage.records import Record
from harness.storage.store import Store

N_LATENTS = 6
WEIGHTS = [4.0, 4.0, 2.5, 2.5, 7.0, 7.0]


class Decomposition(harness.Decomposition):
    def __init__(self, dictionary: torch.Tensor) -> None:
        self.dictionary = dictionary

    def encode(self, x: torch.Tensor) -> harness.Codes:
        raise AssertionError("scorers look at windows, not at rows")

    def decode(self, codes: harness.Codes) -> torch.Tensor:
        raise AssertionError


class Lengths:
    """Its metric is the latent's index, after asking for embeddings of the test windows."""

    metric, chance = "index", 0.25
    range = (0.0, float("inf"))
    also: ClassVar[dict[str, tuple[float, float]]] = {"direction": (-float("inf"), 99.0)}

    def __init__(self, config: object) -> None:
        self.seen: list[harness.Latent] = []

    def plan(self, latent: harness.Latent) -> list[harness.Embed]:
        return [harness.Embed(tuple(window.text for window in latent.test)), harness.Embed((latent.source or "none",))]

    def reduce(self, latent: harness.Latent, requests: Any, responses: Any) -> list[harness.TableRow]:
        windows, source = responses
        assert len(windows) == len(latent.test) and len(source) == 1
        assert torch.allclose(windows.norm(dim=1), torch.ones(len(windows), dtype=torch.float64))
        return self.judge(latent)

    def judge(self, latent: harness.Latent) -> list[harness.TableRow]:
        assert latent.other is not None and latent.direction is not None
        return [
            harness.TableRow("index", float(latent.index), len(latent.test), True),
            harness.TableRow("index_random_explanation", float(latent.other.index), 1),
            harness.TableRow("direction", float(latent.direction[0]), 1),
        ]


class Silent(Lengths):
    """Asks nobody."""

    def plan(self, latent: harness.Latent) -> list[harness.Embed]:
        if latent.index == 2:
            raise harness.Undefined("not this one")
        return []

    def reduce(self, latent: harness.Latent, requests: Any, responses: Any) -> list[harness.TableRow]:
        assert (requests, responses) == ([], [])
        if latent.index == 3:
            raise harness.Undefined("nor this one")
        torch.set_default_dtype(torch.float64)  # put back, or the next one would see it
        return self.judge(latent)


class Tuples(Silent):
    """Plans and judges by sequences that are no lists."""

    def plan(self, latent: harness.Latent) -> Any:
        return tuple(super().plan(latent))

    def reduce(self, latent: harness.Latent, requests: Any, responses: Any) -> Any:
        return tuple(super().reduce(latent, requests, responses))


class Spoils(Silent):
    """Changes what it is given, and what that holds."""

    def reduce(self, latent: harness.Latent, requests: Any, responses: Any) -> list[harness.TableRow]:
        rows = self.judge(latent) if latent.index != 3 else []
        for own in (latent, latent.other):
            assert own is not None and own.direction is not None
            own.direction.mul_(3)
            object.__setattr__(own.test[0], "tokens", ())
            object.__setattr__(own, "test", ())
        return rows


class Raises(Silent):
    def plan(self, latent: harness.Latent) -> list[harness.Embed]:
        raise ZeroDivisionError("oh")


class Quits(Silent):
    def reduce(self, latent: harness.Latent, requests: Any, responses: Any) -> list[harness.TableRow]:
        sys.exit(4)


class AsksInVain(Lengths):
    def plan(self, latent: harness.Latent) -> list[harness.Embed]:
        return [harness.Embed((" ",))] if latent.index == 1 else super().plan(latent)


class AsksAJudge(Silent):
    """Its metric is what the judge says of the latent's index."""

    def plan(self, latent: harness.Latent) -> list[Any]:
        return [harness.Choose("s", f"latent {latent.index}", ("Yes", "No"))]

    def reduce(self, latent: harness.Latent, requests: Any, responses: Any) -> list[harness.TableRow]:
        ((yes, _),) = responses
        return [harness.TableRow("index", -yes, 1, True)]


class Explains:
    """Says the latent's index; nothing of latent 2. Asks a judge first."""

    def __init__(self, config: object) -> None: ...

    def plan(self, latent: harness.Latent) -> list[Any]:
        assert (latent.test, latent.near_test, latent.other) == ((), (), None) and latent.explain
        return [harness.Choose("s", f"latent {latent.index}", ("Yes", "No"))]

    def reduce(self, latent: harness.Latent, requests: Any, responses: Any) -> str:
        assert responses == [(-float(latent.index), -1.0)]
        if latent.index == 2:
            raise harness.Undefined("nothing to say")
        return f"number {latent.index}"


class Says(Explains):
    """No text."""

    said: ClassVar[Any] = None

    def reduce(self, latent: harness.Latent, requests: Any, responses: Any) -> str:
        return self.said


class Blank(Says):
    said: ClassVar[Any] = " \n"


class Reads(Silent):
    """Its metric is the number in the explanation, its control that in the other's."""

    def plan(self, latent: harness.Latent) -> list[Any]:
        assert latent.explanation is not None
        return []

    def reduce(self, latent: harness.Latent, requests: Any, responses: Any) -> list[harness.TableRow]:
        own, other = latent.explanation, latent.random_explanation
        assert own is not None
        rows = [harness.TableRow("index", float(own.split()[1]), len(latent.test), True)]
        return rows + ([harness.TableRow("index_random_explanation", float(other.split()[1]), 1)] if other else [])


class Chooser:
    """Says the number that it is shown; remembers what it was asked."""

    asked: ClassVar[list[str]] = []
    bounded: ClassVar[set[str]] = set()
    """The questions to which its second choice is none of the likeliest."""

    def __init__(self, config: object) -> None: ...

    def choose(self, requests: Any) -> list[tuple[float, ...]]:
        self.asked.extend(request.user for request in requests)
        answers = [(-float(request.user.split()[-1]), -1.0) for request in requests]
        return [
            harness.Bounded(answer, [1]) if request.user in self.bounded else answer
            for request, answer in zip(requests, answers, strict=True)
        ]


class Embeds(Chooser):
    """Texts of one letter more are twice as far from nowhere; some go amiss."""

    amiss: ClassVar[dict[str, Any]] = {}

    def embed(self, requests: Any) -> list[Any]:
        self.asked.extend(request.text for request in requests)
        return [self.amiss.get(request.text, (2.0 ** len(request.text), 1e-300, -3.0)) for request in requests]


class AsksBoth(AsksAJudge):
    """The judge and the encoder, which may be the same."""

    def plan(self, latent: harness.Latent) -> list[Any]:
        return [*super().plan(latent), harness.Embed(("a", "b"))]

    def reduce(self, latent: harness.Latent, requests: Any, responses: Any) -> list[harness.TableRow]:
        assert responses[1].dtype == torch.float64 and responses[1].shape == (2, 3)
        return super().reduce(latent, requests[:1], responses[:1])


class Opines(Silent):
    """Says of each test window, the last first, what it is; of the last that it can't tell; and is fooled by one."""

    def reduce(self, latent: harness.Latent, requests: Any, responses: Any) -> list[harness.TableRow]:
        (main, *rest), windows = self.judge(latent), latent.test[::-1]
        said = [
            harness.Verdict(window, window.is_active, window.is_active, i / 2) for i, window in enumerate(windows[1:])
        ]
        turned = dataclasses.replace(windows[1], is_active=not windows[1].is_active)
        more = [harness.Verdict(turned, turned.is_active, True, shown="a <<b>> \ud800")]
        more += [harness.Verdict(windows[0], windows[0].is_active, None, reason="no answer")]
        return [dataclasses.replace(main, verdicts=[*said, *more]), *rest]


class OpinesElsewhere(Silent):
    def reduce(self, latent: harness.Latent, requests: Any, responses: Any) -> list[harness.TableRow]:
        main, *rest = self.judge(latent)
        return [dataclasses.replace(main, verdicts=[harness.Verdict(latent.explain[0], False, False)]), *rest]


class Unfit(Silent):
    """Returns what no scorer may."""

    found: ClassVar[Any] = None

    def reduce(self, latent: harness.Latent, requests: Any, responses: Any) -> list[harness.TableRow]:
        return self.found


class Broken(Unfit):
    found: ClassVar[Any] = [harness.TableRow("index", float("nan"), 1)]


class Mute(Unfit):
    found: ClassVar[Any] = [harness.TableRow("another", 1.0, 1)]


class Tiny:
    """A byte-level model that counts what it is asked; the embeddings mean nothing."""

    asked: ClassVar[list[str]] = []

    def __init__(self, config: object) -> None:
        self._model = harness.create("model", "random_weights", n_layers=1, width=8, n_heads=2, device="cpu")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def windows(self, texts: Any, context: int) -> Any:
        self.asked.extend(texts)
        return [
            [] if text == " " else own for text, own in zip(texts, self._model.windows(texts, context), strict=True)
        ]


def _catalog() -> Catalog:
    scorers = (
        Lengths,
        Silent,
        Tuples,
        Spoils,
        Raises,
        Quits,
        AsksInVain,
        AsksAJudge,
        AsksBoth,
        Opines,
        OpinesElsewhere,
        Unfit,
        Broken,
        Mute,
    )
    specs = [harness.Spec("scorer", cls.__name__.lower(), 1, "of this test", cls) for cls in scorers]
    specs.append(harness.Spec("scorer", "needy", 1, "of this test", Silent, needs=("atoms",)))
    specs.append(harness.Spec("scorer", "reads", 1, "of this test", Reads, needs=("explanation",)))
    specs += [
        harness.Spec("explainer", cls.__name__.lower(), 1, "of this test", cls) for cls in (Explains, Says, Blank)
    ]
    specs.append(harness.Spec("model", "tiny", 1, "of this test", Tiny))
    specs.append(harness.Spec("judge", "chooser", 1, "of this test", Chooser, provides=("choose",)))
    specs.append(harness.Spec("judge", "embeds", 1, "of this test", Embeds, provides=("choose", "embed")))
    catalog = Catalog()
    for spec in specs:
        catalog.entries[spec.kind, spec.name] = Registered(spec, sys.modules[__name__], "here", "1")
    return catalog


def _card(place: int, source: dict[str, Any] | None) -> dict[str, Any]:
    """Two poles of each latent; windows are shared by all."""
    windows = [
        {"document": f"d{i}", "tokens": ["word", f" {i}"], "activations": [0.0, float(i % 2)], "is_active": i % 2 == 1}
        | {"sample": "random" if i % 2 else "silent"}
        for i in range(12)
    ]
    card = {"index": place // 2, "sign": -1 if place % 2 else 1, "stratum": f"density_{place % 4 + 1}"}
    return card | {
        **{"weight": WEIGHTS[place], "threshold": 0.5, "density": 0.2, "active_share": 0.01, "source": source},
        **{"explain": windows[:6], "test": windows[6:]},
    }


@pytest.fixture
def session(tmp_path: Path) -> Session:
    store = Store(tmp_path / "results", tmp_path / "cache")
    source = {"document": "d", "before": "a ", "token": "b", "after": " c"}
    cards = [_card(place, source) for place in range(N_LATENTS)]
    for key, sampled in {"latents": cards, "none": [], "alone": cards[:2], "rows": [_card(0, None)]}.items():
        work = store.work_folder("latents", key)
        work.mkdir(parents=True)
        (work / "cards.json").write_text(json.dumps({"cards": sampled}))
        store.commit("latents", key, {})
    work = store.work_folder("fit", "fit")
    Decomposition(torch.arange(30.0).reshape(10, 3) + 1).save(work)
    store.commit("fit", "fit", {})
    Tiny.asked.clear()
    return Session(store, _catalog(), torch.device("cpu"), "logs/x.txt", emit=lambda event: None)


def _cell(name: str, latents: str = "latents", seed: int = 0, encoder: str | None = "tiny") -> Cell:
    work = {
        "scorer": {"name": name, "params": {}},
        **{"latents": latents, "fit": "fit", "seed": seed},
        "encoder": encoder and {"name": encoder, "params": {}},
        "subject": None,
    }
    return Cell("scoring", f"{name}-{latents}-{seed}", f"{name} of x", "g", work, {"method": "x", "scorer": name})


def _run(session: Session, *cells: Cell) -> list[Record]:
    scoring.run(list(cells), session)
    records = [session.store.record(cell.key) for cell in cells]
    assert None not in records
    return [record for record in records if record is not None]


def _interp(record: Record, metric: str = "index") -> list[dict[str, Any]]:
    assert record.status == "done", record.error
    return [row for row in record.rows if row["table"] == "interp" and row["metric"] == metric]


def test_every_unit_has_its_rows_and_says_what_it_stands_for(session: Session) -> None:
    (record,) = _run(session, _cell("lengths"))
    rows = _interp(record)
    assert [(row["latent"], row["sign"]) for row in rows] == [(i // 2, (1, -1)[i % 2]) for i in range(N_LATENTS)]
    assert [row["value"] for row in rows] == [row["latent"] for row in rows]
    assert [row["weight"] for row in rows] == WEIGHTS
    assert [row["stratum"] for row in rows[:5]] == [f"density_{i}" for i in (1, 2, 3, 4, 1)]
    assert {(row["density"], row["active_share"]) for row in rows} == {(0.2, 0.01)}
    assert {(row["chance"], row["lowest"], row["highest"]) for row in rows} == {(0.25, 0.0, None)}
    assert {row["chance"] for row in record.rows if row["metric"] != "index" and row["table"] == "interp"} == {None}
    assert {(row["lowest"], row["highest"]) for row in _interp(record, "direction")} == {(None, 99.0)}
    assert {(row["lowest"], row["highest"]) for row in _interp(record, "index_random_explanation")} == {(None, None)}
    (seconds,) = [row for row in record.rows if row["table"] == "cost"]
    assert seconds["metric"] == "scoring_seconds_lengths" and seconds["value"] > 0


def test_any_sequences_do_for_plans_and_rows(session: Session) -> None:
    lists, tuples = _run(session, _cell("silent"), _cell("tuples"))
    assert len(_interp(lists)) == N_LATENTS and _interp(lists) == _interp(tuples)


def test_directions_are_those_of_the_pole(session: Session) -> None:
    (record,) = _run(session, _cell("lengths"))
    found = [row["value"] for row in _interp(record, "direction")]
    assert found == [1.0, -1.0, 4.0, -4.0, 7.0, -7.0]


def test_what_a_scorer_spoils_is_whole_for_the_next(session: Session) -> None:
    alone, _, after, again = _run(session, *map(_cell, ("lengths", "spoils", "lengths", "spoils")))
    assert [row for row in after.rows if row["table"] == "interp"] == [
        row for row in alone.rows if row["table"] == "interp"
    ]
    assert again.status == "done", again.error


def test_the_other_latent_is_another_one_and_the_seed_decides(session: Session) -> None:
    seeds = [_cell("lengths", seed=seed) for seed in range(8)]
    drawn = []
    for record in _run(session, *seeds, _cell("lengths")):
        drawn.append([row["value"] for row in _interp(record, "index_random_explanation")])
        assert all(other != row["latent"] for other, row in zip(drawn[-1], _interp(record), strict=True))
    assert drawn[0] == drawn[-1]
    assert len({tuple(others) for others in drawn}) > 1
    assert all(len({others[place] for others in drawn}) == 2 for place in range(N_LATENTS))


def test_texts_are_embedded_once_for_all_cells(session: Session) -> None:
    _run(session, _cell("lengths"), _cell("asksinvain"), _cell("lengths", "alone"))
    assert sorted(Tiny.asked) == sorted({*(f"word {i}" for i in range(6, 12)), "a b c", " "})


def test_an_encoder_that_nobody_asks_is_not_loaded(session: Session) -> None:
    (record,) = _run(session, _cell("silent", encoder=None))
    assert len(_interp(record)) == N_LATENTS
    (record,) = _run(session, _cell("lengths", encoder=None))
    assert record.error_type == "PluginError" and "needs=('embed',)" in str(record.error)


def test_a_judge_is_asked_once_even_by_another_run(session: Session) -> None:
    Chooser.asked.clear()
    judge = {"name": "chooser", "params": {}, "inputs": {"name": "chooser", "version": 1}}
    asking = _cell("asksajudge")
    asking = dataclasses.replace(asking, work={**asking.work, "judge": judge})
    for _ in range(2):
        (record,) = _run(session, asking)
        assert [row["value"] for row in _interp(record)] == [row["latent"] for row in _interp(record)]
    assert sorted(Chooser.asked) == ["latent 0", "latent 1", "latent 2"]
    (record,) = _run(session, _cell("asksajudge"))
    assert record.error_type == "PluginError" and "needs=('choose',)" in str(record.error)


def test_answers_that_are_bounds_are_told(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Chooser, "bounded", {"latent 1"})
    judge = {"name": "chooser", "params": {}, "inputs": {"name": "chooser", "version": 1}}
    asking = _cell("asksajudge")
    (record,) = _run(session, dataclasses.replace(asking, work={**asking.work, "judge": judge}))
    told = [(row["latent"], row["value"], row["n"]) for row in record.rows if row["metric"] == "bounded"]
    assert set(told) == {(1, 1.0, 1)}
    assert {row["latent"] for row in _interp(record)} == {0, 1, 2}


@pytest.fixture
def embeds() -> Iterator[type[Embeds]]:
    Embeds.asked.clear()
    yield Embeds
    Embeds.amiss.clear()


def _embedded(name: str, seed: int = 0, encoder: str | None = "judge") -> Cell:
    judge = {"name": "embeds", "params": {}, "inputs": {"name": "embeds", "version": 1}}
    cell = _cell(name, seed=seed)
    return dataclasses.replace(cell, work={**cell.work, "encoder": encoder, "judge": judge})


def test_a_judge_embeds_each_text_once_even_for_another_run(session: Session, embeds: type[Embeds]) -> None:
    first, both, again = _run(session, _embedded("lengths"), _embedded("asksboth"), _embedded("lengths", seed=1))
    assert [row["value"] for row in _interp(first)] == [row["latent"] for row in _interp(first)]
    assert [row["value"] for row in _interp(both)] == [row["latent"] for row in _interp(both)]
    texts = {*(f"word {i}" for i in range(6, 12)), "a b c"}
    assert sorted(embeds.asked) == sorted([*texts, "a", "b", "latent 0", "latent 1", "latent 2"])
    costs = [{row["metric"]: row["value"] for row in of.rows if row["table"] == "cost"} for of in (first, again)]
    assert [cost["judge_requests_lengths"] for cost in costs] == [len(texts), 0]
    assert costs[0]["judge_prompt_tokens_lengths"] == sum(-(-len(text) // 4) for text in texts)
    assert costs[0]["judge_answer_tokens_lengths"] == 0
    embeds.asked.clear()
    _run(session, _embedded("lengths"))
    assert not embeds.asked and not Tiny.asked


def test_embeddings_of_a_judge_have_unit_norm() -> None:
    rows = unit_rows(["a", "b", "c"], [(3, -4.0), (1e-200, 0.0), (1e200, -1e200)])
    expected = torch.tensor([[0.6, -0.8], [1.0, 0.0], [0.5**0.5, -(0.5**0.5)]], dtype=torch.float64)
    torch.testing.assert_close(rows, expected, rtol=1e-15, atol=0)
    with pytest.raises(harness.Undefined, match="the embedding of 'b' is zero"):
        unit_rows(["a", "b"], [(1.0, 0.0), (0.0, -0.0)])


@pytest.mark.parametrize(
    ("amiss", "reason"),
    [
        (harness.Failure("too rude"), "the judge has no embedding of 'word 7': too rude"),
        ((0.0, 0.0, 0.0), "the embedding of 'word 7' is zero"),
    ],
)
def test_where_a_judge_embeds_nothing_no_score_is_made_up(
    session: Session, embeds: type[Embeds], amiss: Any, reason: str
) -> None:
    embeds.amiss["word 7"] = amiss
    first, both = _run(session, _embedded("lengths"), _embedded("asksboth"))
    assert {(row["value"], row["reason"]) for row in _interp(first)} == {(None, reason)}
    assert (first.incomplete is not None) is isinstance(amiss, harness.Failure) and both.incomplete is None
    assert {row["reason"] for row in _interp(both)} == {None}  # which did not ask for it


def test_embeddings_of_another_width_are_another_models(session: Session, embeds: type[Embeds]) -> None:
    embeds.amiss["word 7"] = (1.0, 2.0)
    (record,) = _run(session, _embedded("lengths"))
    assert record.error_type == "PluginError" and "have 2 and 3 numbers" in str(record.error)


def test_a_judge_does_not_embed_for_those_who_do_not_say_that_they_ask(session: Session, embeds: type[Embeds]) -> None:
    (record,) = _run(session, _embedded("asksboth", encoder=None))
    assert record.error_type == "PluginError" and "needs=('embed',)" in str(record.error)


def test_a_spent_budget_leaves_cells_to_do(session: Session) -> None:
    """And what was answered before it was spent is not asked again."""
    Chooser.asked.clear()
    events: list[dict[str, Any]] = []
    judge = {"name": "chooser", "params": {}, "inputs": {"name": "chooser", "version": 1}}
    asking = _cell("asksajudge")
    asking = dataclasses.replace(asking, work={**asking.work, "judge": judge})
    poor = dataclasses.replace(session, judge_budget=JudgeBudget(tokens=1), emit=events.append)
    scoring.run([asking], poor)
    assert session.store.record(asking.key) is None and len(Chooser.asked) == 1
    (event,) = [event for event in events if event["event"] == "cell"]
    assert event["status"] == "to do" and "2 requests were not sent" in event["error"]
    (record,) = _run(session, asking)
    assert record.status == "done" and sorted(Chooser.asked) == ["latent 0", "latent 1", "latent 2"]
    costs = {row["metric"]: row["value"] for row in record.rows if row["table"] == "cost"}
    assert costs["judge_requests_asksajudge"] == 3 and costs["judge_usd_asksajudge"] == 0


def test_undefined_units_are_null_with_the_reason(session: Session) -> None:
    silent, asking = _run(session, _cell("silent"), _cell("asksinvain"))
    found = {(row["latent"], row["sign"]): (row["value"], row["reason"]) for row in _interp(silent)}
    assert found[2, 1] == found[2, -1] == (None, "not this one")
    assert found[1, 1] == (1.0, None)
    assert {row["chance"] for row in _interp(silent)} == {0.25}
    also = {(row["latent"], row["sign"]): row["reason"] for row in _interp(silent, "direction") if row["value"] is None}
    assert also == {unit: reason for unit, (value, reason) in found.items() if value is None}
    reasons = [row["reason"] for row in _interp(asking) if row["latent"] == 1]
    assert reasons == ["the text ' ' has no tokens to embed"] * 2
    assert torch.get_default_dtype() == torch.float32


def test_what_is_said_of_windows_lies_beside_the_record(session: Session) -> None:
    opines, _, elsewhere = _run(session, *map(_cell, ("opines", "silent", "opineselsewhere")))
    assert elsewhere.error_type == "PluginError" and "none of the latent's test" in str(elsewhere.error)
    assert all("verdicts" not in row for row in opines.rows)
    path = session.store.record_path("opines-latents-0").with_suffix(".parquet")
    assert not session.store.record_path("silent-latents-0").with_suffix(".parquet").exists()
    table = pd.read_parquet(path)
    assert len(table) == 7 * 4  # of the two poles of latent 2 nothing was asked
    own = table[(table["latent"] == 1) & (table["sign"] == -1)]
    assert own["window"].tolist() == [4, 3, 2, 1, 0, 4, 5]  # of the card, whatever the order
    assert own["label"].tolist() == [False, True, False, True, False, True, True]
    assert own["says"].tolist() == [False, True, False, True, False, True, None]
    assert own["score"].tolist()[:5] == [0.0, 0.5, 1.0, 1.5, 2.0] and own["score"].isna().sum() == 2
    assert own["shown"].dropna().tolist() == ["a <<b>> ?"] and own["reason"].dropna().tolist() == ["no answer"]
    assert set(own["document"]) == {f"d{i}" for i in range(6, 12)}


def test_a_scorer_that_raises_costs_its_own_cell(session: Session) -> None:
    records = _run(session, *map(_cell, ("raises", "quits", "unfit", "broken", "mute", "missing", "lengths")))
    assert [record.status for record in records] == ["failed"] * 6 + ["done"]
    errors = [str(record.error) for record in records]
    assert errors[0] == "oh" and "sys.exit(4)" in errors[1]
    assert errors[2] == "Unfit.reduce() returned None, not TableRows in a list or one by one."
    assert errors[3] == "Broken.reduce(): index is nan. Give None and a reason."
    assert errors[4] == "Mute.reduce() gives ['another'], not its metric 'index' once."
    assert "unknown scorer 'missing'" in errors[5]


def test_cells_that_cannot_be_scored_are_skipped(session: Session) -> None:
    nothing, sourceless, sourced = _run(session, _cell("lengths", "none"), _cell("needy", "rows"), _cell("needy"))
    assert (nothing.status, nothing.error) == ("skipped", "no latent of x has enough windows to be scored")
    assert (sourceless.status, sourced.status) == ("skipped", "done")
    assert "needs atoms that were taken from a text" in str(sourceless.error)


def test_a_single_latent_has_no_other(session: Session) -> None:
    (record,) = _run(session, _cell("silent", "alone"))
    assert (record.status, record.error_type) == ("failed", "AssertionError")  # this scorer insists on one


JUDGE = {"name": "chooser", "params": {}, "inputs": {"name": "chooser", "version": 1}}


def _explain(session: Session, name: str = "explains", latents: str = "latents") -> Record:
    work = {key: value for key, value in _cell("reads", latents, encoder=None).work.items() if key != "scorer"}
    work |= {"explainer": {"name": name, "params": {}}, "judge": JUDGE}
    cell = Cell("explanation", f"{name}-{latents}", f"{name} of x", "g", work, {"method": "x", "explainer": name})
    explanation.run([cell], session)
    record = session.store.record(cell.key)
    assert record is not None
    return record


def test_explanations_are_made_once_and_read_by_scorers(session: Session) -> None:
    Chooser.asked.clear()
    first = _explain(session)
    assert first.status == "done", first.error
    assert sorted(Chooser.asked) == ["latent 0", "latent 1", "latent 2"]
    share = next(row for row in first.rows if row["metric"] == "explained_share")
    assert (share["value"], share["n"]) == (4 / 6, 6)
    assert any(row["metric"] == "explanation_seconds_explains" for row in first.rows)
    again = _explain(session)  # another suite, or this one once more
    assert (again.status, again.rows) == ("done", first.rows)
    reads = _cell("reads", encoder=None)
    reads = dataclasses.replace(reads, work={**reads.work, "explanation": "explains-latents"})
    (record,) = _run(session, reads)
    found = {(row["latent"], row["sign"]): (row["value"], row["reason"]) for row in _interp(record)}
    assert found == {
        **{(index, sign): (float(index), None) for index in (0, 1) for sign in (1, -1)},
        **{(2, sign): (None, "no explanation: nothing to say") for sign in (1, -1)},
    }
    controls = [row["value"] for row in _interp(record, "index_random_explanation")]
    (lengths,) = _run(session, _cell("lengths"))
    others = [row["value"] for row in _interp(lengths, "index_random_explanation") if row["latent"] != 2]
    assert controls == [other for other in others if other != 2] and controls


@pytest.mark.parametrize("name", ["says", "blank"])
def test_an_explainer_that_says_nothing_fails(session: Session, name: str) -> None:
    record = _explain(session, name)
    assert record.error_type == "PluginError" and "not a text. Raise harness.Undefined" in str(record.error)
    assert session.store.manifest("explanation", f"{name}-latents") is None


def test_nothing_is_explained_where_nothing_was_sampled(session: Session) -> None:
    record = _explain(session, latents="none")
    assert (record.status, record.error) == ("skipped", "no latent of x has enough windows to be explained")
