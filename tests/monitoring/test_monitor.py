"""A monitor of a real stream: texts through a model and a decomposition, kept in a folder."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import harness
from harness.errors import ConfigError, StoreError
from harness.monitoring.reading import read_texts
from harness.storage.tensor_files import save_tensors, take_up_tensors
from tests.support.parts import rows_of_text

_SITE = "resid_post.1"
_MODEL: dict[str, Any] = {"model": "random_weights", "n_layers": 2, "width": 16, "n_heads": 2, "device": "cpu"}


@pytest.fixture(scope="module")
def model() -> Any:
    return harness.create("model", "random_weights", **{key: value for key, value in _MODEL.items() if key != "model"})


@pytest.fixture(scope="module")
def texts() -> list[str]:
    corpus = harness.create("corpus", "synthetic", n_documents=150, seed=4)
    return [document.text[:60] for document in corpus.documents()]


@pytest.fixture(scope="module")
def decomposition(model: Any, texts: list[str]) -> harness.Decomposition:
    x = harness.capture(model, texts[:30], [_SITE]).x[_SITE].float()
    return harness.fit(harness.create("method", "pca", n_components=6, k=3), x)


@pytest.fixture
def monitor(tmp_path: Path, model: Any, texts: list[str], decomposition: harness.Decomposition) -> harness.Monitor:
    return _calibrated(tmp_path / "monitor", model, texts, decomposition)


def _calibrated(folder: Path, model: Any, texts: list[str], decomposition: harness.Decomposition) -> harness.Monitor:
    return harness.Monitor.calibrate(
        folder,
        decomposition,
        model,
        _SITE,
        texts[30:80],
        fitted_on=[harness.document_id(text) for text in texts[:30]],
        explanations={(0, 1): "the first"},
        settings=harness.MonitorSettings(window=12, horizon=200),
    )


_CHANGED = [f"{number} 7#5 {number * 37} @@ {number % 7}-{number}^^{number}" for number in range(10_000, 10_030)]


def test_a_change_raises_the_alarm_and_is_named_and_shown(monitor: harness.Monitor, texts: list[str]) -> None:
    before = monitor.update(texts[80:100])
    assert (before.n_documents, before.alarm, before.alarm_document) == (20, False, None)
    assert before.false_alarm_bound == pytest.approx(20 / 200)
    after = monitor.update(_CHANGED)
    assert after.alarm and after.alarm_document is not None and 20 <= after.alarm_document < 30
    assert after.named and all(named.p_adjusted <= 0.025 for named in after.named)
    for named in after.named:
        for example in named.examples:
            text = next(text for text in _CHANGED if harness.document_id(text) == example["document"])
            assert example["token"] and example["before"] + example["token"] in text
    assert {named.explanation for named in after.named if (named.latent, named.sign) == (0, 1)} <= {"the first"}
    json.dumps(after.as_json(), allow_nan=False)


def test_a_monitor_that_was_killed_goes_on_as_if_it_had_not_been(
    monitor: harness.Monitor, tmp_path: Path, model: Any, texts: list[str], decomposition: harness.Decomposition
) -> None:
    batches = [texts[80:90], texts[90:97], _CHANGED[:5], _CHANGED[5:9]]
    whole = [monitor.update(batch) for batch in batches]
    _calibrated(tmp_path / "other", model, texts, decomposition)
    pieces = [harness.Monitor.load(tmp_path / "other", model).update(batch) for batch in batches]
    assert pieces == whole
    resumed = harness.Monitor.load(tmp_path / "other", model)
    assert (resumed.n_read, resumed.digest) == (monitor.n_read, monitor.digest)


def test_a_folder_that_knows_its_model_needs_no_other(
    tmp_path: Path, model: Any, texts: list[str], decomposition: harness.Decomposition, monitor: harness.Monitor
) -> None:
    _calibrated(tmp_path / "knows", _MODEL, texts, decomposition)
    assert harness.Monitor.load(tmp_path / "knows").update(texts[80:90]) == monitor.update(texts[80:90])
    with pytest.raises(ConfigError, match=r"load\(folder, model\)"):
        harness.Monitor.load(tmp_path / "monitor")


def test_documents_of_the_fit_are_refused(
    tmp_path: Path, model: Any, texts: list[str], decomposition: harness.Decomposition
) -> None:
    with pytest.raises(ConfigError, match="1 of 50 documents for calibration are among those"):
        harness.Monitor.calibrate(
            tmp_path / "m", decomposition, model, _SITE, texts[30:80], fitted_on=[harness.document_id(texts[42])]
        )
    assert not (tmp_path / "m").exists()


def test_what_can_not_be_watched_is_refused(
    monitor: harness.Monitor, tmp_path: Path, model: Any, texts: list[str], decomposition: harness.Decomposition
) -> None:
    with pytest.raises(ConfigError, match="holds one already"):
        _calibrated(tmp_path / "monitor", model, texts, decomposition)
    with pytest.raises(ConfigError, match="holds none"):
        harness.Monitor.load(tmp_path / "nowhere", model)
    with pytest.raises(ConfigError, match="give at least 20"):
        harness.Monitor.calibrate(tmp_path / "m", decomposition, model, _SITE, texts[:10], fitted_on=[])
    with pytest.raises(ConfigError, match=r"write \[text\]"):
        monitor.update("one text")


@pytest.mark.parametrize("file", ["reference.safetensors", "state.safetensors", "decomposition/decomposition.json"])
def test_damage_is_said(monitor: harness.Monitor, tmp_path: Path, model: Any, texts: list[str], file: str) -> None:
    monitor.update(texts[80:84])
    path = tmp_path / "monitor" / file
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(StoreError, match=Path(file).name):
        harness.Monitor.load(tmp_path / "monitor", model)


def test_a_document_without_rows_says_nothing(monitor: harness.Monitor, texts: list[str]) -> None:
    report = monitor.update(["", texts[80], "", texts[80]])
    assert (report.n_documents, report.without_rows, monitor.n_read) == (2, 2, 4)
    nothing = monitor.update([])
    assert (nothing.n_documents, nothing.named) == (2, [])


def test_sums_of_documents_are_those_of_their_rows(
    model: Any, texts: list[str], decomposition: harness.Decomposition
) -> None:
    read = read_texts(decomposition, model, _SITE, texts[:5], harness.MonitorSettings(context=16))
    captured = harness.capture(model, texts[:5], [_SITE], context=16)
    x, document = captured.x[_SITE].float(), captured.rows["document"].to_numpy()
    codes = decomposition.encode(x)
    errors = ((decomposition.decode(codes).double() - x.double()).norm(dim=1) / x.double().norm(dim=1)).numpy()
    dense = codes.to_dense().numpy()
    for number in range(5):
        own = document == number
        assert read.documents.n_rows[number] == own.sum()
        assert read.documents.scores[number] == pytest.approx(errors[own].mean(), rel=1e-9)
        fired = read.documents.fired.toarray()[number]
        assert np.array_equal(fired[::2], (dense[own] > 0).sum(axis=0))
        assert np.array_equal(fired[1::2], (dense[own] < 0).sum(axis=0))
    pole = int(np.argmax(read.documents.fired.sum(axis=0)))
    sign, latent = -1 if pole % 2 else 1, pole // 2
    best = read.strongest.of(pole, 1)[0][1]
    assert sign * dense[best, latent] == (sign * dense[:, latent]).max()


class _Twice(harness.Decomposition):
    """Takes latent 0 twice: its codes cancel in odd rows."""

    n_latents = 2

    def encode(self, x: torch.Tensor) -> harness.Codes:
        odd = torch.arange(len(x)) % 2
        values = torch.stack([torch.ones(len(x)), 1.0 - 2 * odd, 3.0 * torch.ones(len(x))], dim=1)
        return harness.Codes(values, torch.tensor([[0, 0, 1]]).expand(len(x), 3), 2)

    def decode(self, codes: harness.Codes) -> torch.Tensor:
        return torch.zeros(len(codes.values), 4)


def test_codes_of_an_atom_taken_twice_are_added() -> None:
    found = harness.watched(_Twice(), torch.ones(10, 4), np.zeros(10, int), ["a"])
    assert found.fired.toarray().tolist() == [[5, 0, 10, 0]]
    assert found.scores.tolist() == [1.0]


def test_rows_in_pieces_give_the_same_sums(decomposition: harness.Decomposition) -> None:
    from harness.monitoring.documents import DocumentCounter

    x = torch.randn(9000, 16, generator=torch.Generator().manual_seed(0))
    documents = rows_of_text(9000, 300)["document"].astype(str).factorize()[0]
    ids = [str(number) for number in range(documents.max() + 1)]
    whole = harness.watched(decomposition, x, documents, ids)
    counter = DocumentCounter(decomposition, len(ids))
    for part in np.array_split(np.random.default_rng(0).permutation(9000), 7):
        counter.add(x[part], documents[part])
    pieces = counter.counted(ids)[0]
    assert (pieces.fired != whole.fired).nnz == 0
    assert np.allclose(pieces.scores, whole.scores, rtol=1e-12)


def test_firings_of_latents_that_are_none_are_refused(monitor: harness.Monitor, tmp_path: Path) -> None:
    """Sums are read by place: one beyond the array would be read from wherever that is."""
    path = next(tmp_path.rglob("reference*"))
    tensors, about = take_up_tensors(path, "Calibrate anew.")  # type: ignore[misc]
    tensors["poles"][0] = 10**6
    save_tensors(path, tensors, about)
    with pytest.raises(StoreError, match="is not of this decomposition"):
        harness.Monitor.load(path.parent)


@pytest.mark.parametrize(
    "settings", [{"horizon": math.inf}, {"horizon": math.nan}, {"context": 0}, {"max_norm": -1.0}, {"window": 1}]
)
def test_settings_that_mean_nothing_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(settings))):
        harness.MonitorSettings(**settings)
