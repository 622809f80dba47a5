"""The latents stage on a store with small real parts: what it leaves there, and what a bad decomposition costs."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import harness
from harness.capturing.splits import in_split
from harness.latents.activations import LatentActivations
from harness.planning.cells import Cell
from harness.registry.plugin_manager import Catalog, Registered
from harness.running.session import Session
from harness.stages import latents
from harness.storage.activation_store import write_shard
from harness.storage.records import Record
from harness.storage.store import Store
from tests.support.texts import rows_of

TEXTS = [" ".join(f"{word}{i}" for word in ("red", "green", "blue", "grey") * 20) for i in range(300)]
SHARES = {"interp": [0.1, 0.2], "fit": [0.2, 1.0]}
WIDTH = 6
CALLS: Counter[str] = Counter()


class Texts:
    def __init__(self, config: object) -> None:
        CALLS["corpus"] += 1

    def documents(self) -> Iterator[harness.Document]:
        return (harness.Document(harness.document_id(text), text) for text in TEXTS)


class Model:
    """Its head gives the row itself."""

    def __init__(self, config: object) -> None:
        CALLS["model"] += 1

    def unembed(self, x: Tensor) -> Tensor:
        return x

    def unembedding(self, ids: Tensor) -> Tensor:
        return torch.eye(max(ids.tolist()) + 1)[ids]

    def token_texts(self, ids: Sequence[int]) -> list[str]:
        return [f"t{i}" for i in ids]


class Largest(harness.Decomposition):
    """The largest coordinate if it is above 2; its latents are the axes."""

    signed = False

    def __init__(self) -> None:
        self.dictionary = torch.eye(WIDTH)

    def encode(self, x: Tensor) -> harness.Codes:
        assert x.isfinite().all(), "a masked row was encoded"
        values, indices = x.topk(1, dim=1)
        return harness.Codes(values * (values > 2), indices, WIDTH)

    def decode(self, codes: harness.Codes) -> Tensor:
        return codes.to_dense()


class Bare(Largest):
    """Has no dictionary."""

    def __init__(self) -> None:
        self.n_latents = WIDTH


class Unsure(Largest):
    """Says that its codes are signed, which they never are."""

    signed = True


class Nothing(Unsure):
    """No code at all says nothing of signs."""

    def encode(self, x: Tensor) -> harness.Codes:
        return harness.Codes(x[:, :1] * 0, x[:, :1].long() * 0, WIDTH)


class Quits(Largest):
    def encode(self, x: Tensor) -> harness.Codes:
        sys.exit(3)


def _work(fit: str) -> dict[str, Any]:
    sources = {
        name: {
            "model": {"name": "toy", "params": {}},
            "corpus": {"name": "texts", "params": {}},
            "documents": share,
            "site": "resid_post.0",
            "context": 128,
        }
        for name, share in SHARES.items()
    }
    rows = {"fit": fit, "capture": "interp", "fit_capture": "fit", "max_norm_multiple": 10.0}
    return {**rows, "n_latents": 4, "seed": 0, "source": sources["interp"], "fit_source": sources["fit"]}


def _cell(fit: str, **changes: Any) -> Cell:
    return Cell("latents", f"of-{fit}", f"latents of {fit}", "g", _work(fit) | changes, {"method": fit})


@pytest.fixture
def session(tmp_path: Path) -> Session:
    CALLS.clear()
    store = Store(tmp_path / "results", tmp_path / "cache")
    for split, share in SHARES.items():
        ids = {harness.document_id(text): text for text in TEXTS}
        rows = rows_of({name: text for name, text in ids.items() if in_split(name, share)})
        generator = torch.Generator().manual_seed(len(rows))
        x = torch.randn(len(rows), WIDTH, generator=generator)
        x[3], x[5] = float("nan"), 1e6
        work = store.work_folder("capture", split)
        work.mkdir(parents=True)
        write_shard(work, 0, x, rows)
        store.commit("capture", split, {"n_rows": len(rows), "width": WIDTH})
    atomic = Largest()
    fit_rows = rows.iloc[[7, 90, 91, 200, 300, 400]].reset_index(drop=True)
    atomic.atoms = fit_rows[["document", "position", "start", "end"]]
    for key, decomposition in {
        "largest": Largest(),
        "atomic": atomic,
        "bare": Bare(),
        "unsure": Unsure(),
        "nothing": Nothing(),
        "quits": Quits(),
    }.items():
        decomposition.save(store.work_folder("fit", key))
        store.commit("fit", key, {})
    catalog = Catalog()
    for kind, name, factory in (("corpus", "texts", Texts), ("model", "toy", Model)):
        spec = harness.Spec(kind, name, 1, "of this test", factory)
        catalog.entries[kind, name] = Registered(spec, sys.modules[__name__], "here", "1")
    return Session(store, catalog, torch.device("cpu"), "logs/x.txt", emit=lambda event: None)


def _run(session: Session, *cells: Cell) -> list[Record]:
    latents.run(list(cells), session)
    records = [session.store.record(cell.key) for cell in cells]
    assert None not in records
    return records  # type: ignore[return-value]


def _content(session: Session, fit: str) -> Any:
    return json.loads((session.store.artefact("latents", f"of-{fit}") / "cards.json").read_text())


def test_what_is_left_in_the_store(session: Session) -> None:
    (record,) = _run(session, _cell("largest"))
    assert record.status == "done"
    values = {row["metric"]: (row["table"], row["value"], row["n"]) for row in record.rows}
    assert values["units"] == ("interp", 6, 6) and values["dead_share_of_poles"] == ("interp", 0, 6)
    assert values["dead_share_of_latents"] == ("interp", 0, 6)
    assert values["latents_seconds"][0] == "cost"
    folder = session.store.artefact("latents", "of-largest")
    activations = LatentActivations.load(folder / "activations.safetensors")
    content = _content(session, "largest")
    assert activations.n_latents == 6 and not set(activations.rows.tolist()) & {3, 5}  # masked
    assert content["signed"] is False and content["units"]["total"] == 6
    assert content["n_documents"] == sum(in_split(harness.document_id(text), SHARES["interp"]) for text in TEXTS)
    assert len(content["cards"]) == 4 and len({card["stratum"] for card in content["cards"]}) == 4
    assert sum(card["weight"] for card in content["cards"]) == 6
    texts = {harness.document_id(text): text for text in TEXTS}
    for card in content["cards"]:
        assert card["lens"]["promoted"][0] == {"token": f"t{card['index']}", "logit": 1}
        assert card["source"] is None and len(card["nearest"]) == 5
        for window in (*card["explain"], *card["test"]):
            assert "".join(window["tokens"]) in texts[window["document"]]
            assert in_split(window["document"], SHARES["interp"])
    assert np.isclose(sum(card["active_share"] for card in content["cards"]), 0.04, atol=0.002)


def test_the_model_is_loaded_once_and_only_for_a_lens(session: Session) -> None:
    _run(session, _cell("bare"))
    assert CALLS["model"] == 0
    assert {card["lens"]["reason"] for card in _content(session, "bare")["cards"]} == {
        "the decomposition has no dictionary"
    }
    _run(session, _cell("largest"), _cell("atomic"))
    assert CALLS["model"] == 1


def test_sources_are_in_documents_of_the_fit(session: Session) -> None:
    _run(session, _cell("atomic"))
    texts = {harness.document_id(text): text for text in TEXTS}
    for card in _content(session, "atomic")["cards"]:
        source = card["source"]
        assert in_split(source["document"], SHARES["fit"])
        assert source["before"] + source["token"] + source["after"] in texts[source["document"]]


def test_what_is_there_is_not_made_again(session: Session) -> None:
    first, again = _run(session, _cell("largest"))[0], _run(session, _cell("largest"))[0]
    assert again.rows == first.rows and CALLS["corpus"] == 1


def test_a_sign_that_is_never_used_is_told(session: Session) -> None:
    told: list[dict[str, Any]] = []
    session.emit = told.append
    _run(session, _cell("unsure"), _cell("largest"), _cell("nothing"))
    (warning,) = [event["text"] for event in told if event["event"] == "warning"]
    assert warning.startswith("unsure: signed, but no code is negative") and "set signed = False" in warning


def test_what_fails_costs_its_own_cell(session: Session) -> None:
    records = _run(session, _cell("quits"), _cell("largest"))
    assert [record.status for record in records] == ["failed", "done"]
    assert records[0].error == "the plugin called sys.exit(3)"
    assert session.store.manifest("latents", "of-quits") is None


def test_rows_without_texts_are_skipped(session: Session) -> None:
    source = _work("largest")["source"] | {"corpus": None}
    records = _run(session, _cell("largest", source=source), _cell("bare", source=source))
    assert {record.status for record in records} == {"skipped"}
    assert records[0].error is not None and "came without texts" in records[0].error


def test_a_corpus_that_has_changed(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = next(text for text in TEXTS if in_split(harness.document_id(text), SHARES["interp"]))
    monkeypatch.setattr(sys.modules[__name__], "TEXTS", [text for text in TEXTS if text != gone])
    with pytest.raises(harness.StoreError, match=f"the corpus no longer has document {harness.document_id(gone)}, "):
        latents.run([_cell("largest")], session)
