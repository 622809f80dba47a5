"""Decompositions on disk: what is saved comes back equal, and what is on disk can't make the harness run it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent
from typing import Any

import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import harness
from harness.registry.plugin_manager import load_catalog
from tests.support.parts import Offset, OrderSensitive, rows_of_text

X = torch.randn(50, 4, generator=torch.Generator().manual_seed(0))


class Everything(harness.Decomposition):
    """Has every kind of state there can be."""

    def __init__(self) -> None:
        pool = torch.randn(6, 4)
        self.dictionary = pool[::2]
        self.pool, self.same = pool, pool
        self.empty = torch.zeros(0, 4)
        self.counts = torch.arange(3)
        self.half = torch.ones(2, dtype=torch.bfloat16)
        self.scale, self.name, self.flag, self.nothing = 0.1, "é", True, None
        self.nested = {"a": [1, 2.5, {"b": []}]}

    def encode(self, x: torch.Tensor) -> harness.Codes:
        return harness.Codes(x @ self.dictionary.T * self.scale)

    def decode(self, codes: harness.Codes) -> torch.Tensor:
        return codes.to_dense(3) @ self.dictionary


def test_every_kind_of_state_comes_back_equal(tmp_path: Path) -> None:
    saved = Everything()
    saved.atoms, saved.candidates = rows_of_text(3)[["document", "position", "start", "end"]], rows_of_text(9)
    saved.tokenizer_hash = "abc"
    saved.save(tmp_path / "new" / "folder")
    back = harness.load(tmp_path / "new" / "folder")
    assert type(back) is Everything
    tensors, config = saved.state()
    assert config == back.state()[1]
    assert tensors.keys() == back.state()[0].keys()
    for name, tensor in tensors.items():
        assert tensor.dtype == getattr(back, name).dtype and torch.equal(tensor, getattr(back, name))
    assert torch.equal(saved.encode(X).values, back.encode(X).values)
    pd.testing.assert_frame_equal(back.atoms, saved.atoms)
    pd.testing.assert_frame_equal(back.candidates, saved.candidates)
    assert (back.tokenizer_hash, back.n_candidates, back.n_latents) == ("abc", 9, 3)


def test_what_is_loaded_does_not_need_the_files_any_more(tmp_path: Path) -> None:
    Offset(torch.ones(4)).save(tmp_path)
    back = harness.load(tmp_path)
    Offset(torch.zeros(4)).save(tmp_path)
    assert torch.equal(back.encode(X).values, X - 1)


def test_an_attribute_that_can_not_be_saved_is_named(tmp_path: Path) -> None:
    for value in (object(), {1, 2}, torch.nn.Linear(1, 1), [X], {1: "a"}):
        decomposition = Offset(torch.ones(4))
        decomposition.extra = value  # type: ignore[attr-defined]
        with pytest.raises(harness.HarnessError, match=r"Offset\.extra is a \w+, which can't be saved. Keep tensors"):
            decomposition.save(tmp_path / "here")
    with pytest.raises(harness.StoreError, match="is missing"):
        harness.load(tmp_path / "here")


Damage = Callable[[Path], Any]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "decomposition.json").unlink(), "decomposition.json is missing"),
        (lambda folder: (folder / "decomposition.safetensors").unlink(), "decomposition.safetensors is missing"),
        (lambda folder: (folder / "decomposition.json").write_text('{"format": 1, "cl'), "is corrupt: .*Fit it again"),
        (lambda folder: (folder / "decomposition.json").write_bytes(b"\xff\xfe"), "is corrupt"),
        (lambda folder: (folder / "decomposition.json").write_text("[]"), "json is list, not an object"),
        (
            lambda folder: (folder / "decomposition.json").write_text("[[]]"),
            "json is list, not an object. Fit it",
        ),
        (lambda folder: (folder / "decomposition.json").write_text("1"), "json is int, not an object"),
        (lambda folder: (folder / "decomposition.json").write_text("hello"), "json is not JSON"),
        (lambda folder: (folder / "decomposition.json").write_text("[" * 100_000), "json is not JSON"),
        (lambda folder: _changed(folder, "class"), "'class' of decomposition.json is missing. Fit it again"),
        (lambda folder: _changed(folder, "config"), "'config' of decomposition.json is missing. Fit it again"),
        (lambda folder: _changed(folder, "documents"), "'documents' of decomposition.json is missing"),
        (lambda folder: _changed(folder, "tokenizer_hash"), "'tokenizer_hash' of decomposition.json is missing"),
        (lambda folder: _changed(folder, "class", 1), "'class' of decomposition.json is 1. Fit it again"),
        (lambda folder: _changed(folder, "config", [1]), r"'config' of decomposition.json is \[1\]. Fit it again"),
        (lambda folder: _changed(folder, "config", None), "'config' of decomposition.json is None"),
        (lambda folder: _changed(folder, "tokenizer_hash", 3), "'tokenizer_hash' of decomposition.json is 3"),
        (lambda folder: _changed(folder, "documents", []), r"'documents' of decomposition.json is \[\]"),
        (lambda folder: _changed(folder, "documents", {"encode": []}), "'documents' of .* has 'encode'"),
        (lambda folder: _changed(folder, "documents", {"atoms": 3}), "'documents' of .* has 'atoms': 3"),
        (lambda folder: _changed(folder, "documents", {"atoms": []}), "safetensors has no rows of atoms. Fit it again"),
        (lambda folder: (folder / "decomposition.json").write_text('{"format": 2}'), "format 2, this harness reads 1"),
        (lambda folder: _cut(folder / "decomposition.safetensors", 10), "is corrupt"),
        (lambda folder: _cut(folder / "decomposition.safetensors", -1), "is corrupt"),
        (lambda folder: (folder / "decomposition.safetensors").write_bytes(b""), "is corrupt"),
    ],
)
def test_damage_is_a_store_error_that_names_the_folder(tmp_path: Path, damage: Damage, message: str) -> None:
    Offset(torch.ones(4)).save(tmp_path)
    damage(tmp_path)
    with pytest.raises(harness.StoreError, match=message) as caught:
        harness.load(tmp_path)
    assert str(tmp_path) in str(caught.value)


def _changed(folder: Path, field: str, value: Any = ...) -> None:
    """Gives a field of a saved fit another value; without one it is removed."""
    path = folder / "decomposition.json"
    description = json.loads(path.read_text())
    del description[field]
    path.write_text(json.dumps(description if value is ... else description | {field: value}))


def test_a_document_number_that_is_not_there_is_damage(tmp_path: Path) -> None:
    saved = Offset(torch.ones(4))
    saved.atoms = rows_of_text(3)[["document", "position", "start", "end"]]
    saved.save(tmp_path)
    _changed(tmp_path, "documents", {"atoms": []})
    with pytest.raises(harness.StoreError, match=r"is corrupt: .*out of bounds.*Fit it again"):
        harness.load(tmp_path)


def test_a_state_that_its_class_does_not_take_is_a_store_error(tmp_path: Path) -> None:
    Needy(torch.ones(4)).save(tmp_path)
    assert isinstance(harness.load(tmp_path), Needy)
    _changed(tmp_path, "config", {})
    with pytest.raises(harness.StoreError, match=r"does not fit Needy: KeyError: 'n_latents'. Fit it again, or"):
        harness.load(tmp_path)


class Needy(Offset):
    """Makes something of its config."""

    @classmethod
    def from_state(cls, tensors: dict[str, torch.Tensor], config: dict[str, Any]) -> Needy:
        assert config["n_latents"] == 4
        return super().from_state(tensors, config)


def _cut(path: Path, n_bytes: int) -> None:
    path.write_bytes(path.read_bytes()[:n_bytes])


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("os:system", "not a harness.Decomposition"),
        ("os:path.join", "not a harness.Decomposition"),
        ("subprocess:Popen", "not a harness.Decomposition"),
        ("builtins:eval", "not a harness.Decomposition"),
        ("harness.contracts.decomposition:Decomposition", "not a harness.Decomposition"),
        ("wave:open", "wave.*not loaded"),
        ("evil_module:Evil", "evil_module.*not loaded"),
        ("evil_module.sub:Evil", "evil_module.sub.*not loaded"),
        ("harness_plugin_file_absent:Acme", "module 'absent', which is not loaded.*plugin_files"),
        ("harness.plugins.methods:NoSuchClass", "can't be found"),
        ("harness.plugins.no_such_module:Evil", "can't be found"),
        ("plugins.no_such_module:Evil", "can't be found"),
        ("method/pca:NoSuchClass", "can't be found"),
        ("method/pca:PCA", "not a harness.Decomposition"),
        ("method/pca:torch.nn.Linear", "not a harness.Decomposition"),
        ("method/pca:harness.Decomposition", "not a harness.Decomposition"),
        ("similarity/svcca:Svcca", "Svcca of similarity/svcca, which is no installed method"),
        ("method/no_such_method:Evil", "method/no_such_method, which is no installed method.*plugin_files"),
        ("similarity/cka:PCADecomposition", "PCADecomposition of similarity/cka, which is no installed method"),
        ("method/evil_module:Evil", "no installed method"),
        ("evil_module/pca:Evil", "no installed method"),
        ("method/evil_module.sub:Evil", "no installed method"),
        ("", "not loaded"),
    ],
)
def test_a_saved_folder_can_not_choose_what_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reference: str, message: str
) -> None:
    (tmp_path / "evil_module").mkdir()
    for name in ("__init__", "sub"):
        (tmp_path / "evil_module" / f"{name}.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    monkeypatch.syspath_prepend(tmp_path)
    Offset(torch.ones(4)).save(tmp_path)
    config = tmp_path / "decomposition.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"class": reference}))
    with pytest.raises(harness.StoreError, match=message):
        harness.load(tmp_path)
    assert not (tmp_path / "ran").exists()


IMPORTS = """
import json, sys
import harness

before, messages = set(sys.modules), []
for folder in sys.argv[1:]:
    try:
        harness.load(folder)
    except harness.StoreError as error:
        messages.append(str(error))
print(json.dumps([messages, sorted(set(sys.modules) - before)]))
"""
PROGRAMS = (
    "harness.__main__:x",
    "harness.cli.main:main",
    "harness.report.tracking:x",
    "acme.__main__:x",
    "acme.sub.exits:x",
)


def test_a_saved_folder_runs_no_program(tmp_path: Path) -> None:
    """Neither one of the harness, nor one of an installed package with a plugin."""
    fits = [tmp_path / f"fit-{i}" for i in range(len(PROGRAMS))]
    for fit, reference in zip(fits, PROGRAMS, strict=True):
        Offset(torch.ones(4)).save(fit)
        _changed(fit, "class", reference)
    files = {
        "acme/__init__.py": "import harness\n\n@harness.hookimpl\ndef harness_specs():\n    return []\n",
        "acme/__main__.py": "print('ran')",
        "acme/sub/__init__.py": "import harness\n\n@harness.hookimpl\ndef harness_specs():\n"
        "    return [harness.MethodSpec('acme', 1, 'x', 'acme.sub:A')]\n",
        "acme/sub/exits.py": "import sys; sys.exit(0)",
        "acme-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: acme\nVersion: 1.0\n",
        "acme-1.0.dist-info/entry_points.txt": "[harness.plugins]\nplugin = acme.sub\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    command = [sys.executable, "-c", IMPORTS, *map(str, fits)]
    paths = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])}
    finished = subprocess.run(command, env=paths, capture_output=True, text=True)
    assert finished.returncode == 0 and finished.stdout, finished.stderr
    messages, imported = json.loads(finished.stdout)
    for message, reference in zip(messages, PROGRAMS, strict=True):
        assert f"needs {reference}, which can't be found" in message
    assert not {"harness.__main__", "harness.cli", "harness.report", "acme.__main__"} & set(imported)


def test_the_decomposition_of_a_single_file_loads_back(tmp_path: Path) -> None:
    plugin = tmp_path / "acme_engine_test.py"
    source = """
        import harness

        @harness.hookimpl
        def harness_specs():
            factory = "acme_engine_test:Acme"
            return [harness.Spec(kind="method", name="acme", version=1, summary="first rows", factory=factory)]

        class Acme:
            passes, batch_rows = 1, 16
            first = None
            def __init__(self, config): pass
            def start(self, info): pass
            def partial_fit(self, batch): self.first = batch.x[:2].clone() if self.first is None else self.first
            def finish(self): return AcmeDecomposition(self.first)

        class AcmeDecomposition(harness.Decomposition):
            def __init__(self, dictionary): self.dictionary = dictionary
            def encode(self, x): return harness.Codes(x @ self.dictionary.T)
            def decode(self, codes): return codes.to_dense() @ self.dictionary
    """
    plugin.write_text(dedent(source))
    fitted = harness.fit(load_catalog((str(plugin),)).create("method", "acme", {}), X)
    fitted.save(tmp_path / "saved")
    back = harness.load(tmp_path / "saved")
    assert type(back) is type(fitted) and torch.equal(back.dictionary, X[:2])  # type: ignore[arg-type]


def test_fit_save_load_gives_equal_codes(tmp_path: Path) -> None:
    fitted = harness.fit(OrderSensitive(), X)
    fitted.save(tmp_path)
    assert torch.equal(fitted.encode(X).values, harness.load(tmp_path).encode(X).values)


@given(st.lists(st.lists(st.tuples(st.integers(0, 4), st.integers(-3, 3)), min_size=3, max_size=3), max_size=5))
def test_dense_codes_sum_repeats(codes: list[list[tuple[int, int]]]) -> None:
    indices = torch.tensor([[i for i, _ in row] for row in codes], dtype=torch.int32).reshape(-1, 3)
    values = torch.tensor([[float(v) for _, v in row] for row in codes]).reshape(-1, 3)
    wanted = torch.zeros(len(codes), 5)
    for row, pairs in enumerate(codes):
        for index, value in pairs:
            wanted[row, index] += value
    assert torch.equal(harness.Codes(values, indices, 5).to_dense(), wanted)
    assert torch.equal(harness.Codes(values, indices).to_dense(5), wanted)
    assert torch.equal(harness.Codes(wanted).to_dense(), wanted)


def test_sparse_codes_need_to_know_the_number_of_latents() -> None:
    with pytest.raises(harness.HarnessError, match=r"Codes\(values, indices, n_latents\)"):
        harness.Codes(torch.ones(1, 1), torch.zeros(1, 1)).to_dense()


def test_n_latents_comes_from_the_dictionary_or_has_to_be_given() -> None:
    assert Everything().n_latents == 3
    decomposition = Offset(torch.ones(4))
    del decomposition.n_latents
    with pytest.raises(harness.HarnessError, match="Offset: set n_latents"):
        _ = decomposition.n_latents


def test_a_fit_is_shown_in_one_line() -> None:
    assert repr(Everything()) == "Everything(n_latents=3, width=4, signed=True)"
    assert repr(Offset(torch.ones(4))) == "Offset(n_latents=4, signed=True)"
    decomposition = Everything()
    decomposition.signed = False
    before = decomposition.state()[1]
    assert repr(decomposition) == "Everything(n_latents=3, width=4, signed=False)"
    assert decomposition.state()[1] == before  # being looked at is no part of it
    bare = Offset(torch.ones(4))
    del bare.n_latents
    assert repr(bare) == "Offset(signed=True)" and repr(Offset.__new__(Offset)) == "Offset(signed=True)"
    assert repr(Computed()) == "Computed(n_latents=7, signed=True)"


class Computed(Offset):
    """Derives its number of latents."""

    def __init__(self) -> None: ...

    @property
    def n_latents(self) -> int:  # type: ignore[override]
        return 7


def test_codes_are_shown_in_one_line() -> None:
    values, indices = torch.ones(50, 3), torch.zeros(50, 3, dtype=torch.long)
    assert repr(harness.Codes(values)) == "Codes(50 rows, 3 latents, dense)"
    assert repr(harness.Codes(values, indices, 16)) == "Codes(50 rows, 16 latents, sparse, k=3)"
    assert repr(harness.Codes(values, indices)) == "Codes(50 rows, ? latents, sparse, k=3)"
