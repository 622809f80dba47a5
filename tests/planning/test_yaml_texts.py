"""Suite files at their worst: refused with the file and the place, before a loader has copied or followed anything."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from harness.errors import ConfigError
from harness.planning.config import compose, load_resolved
from harness.planning.yaml_texts import MAX_BYTES, check_numbers, check_references, checked_text

SUITE = """# @package _global_
models: [{model: random_weights, label: r, family: f, sites: [resid_post.1]}]
corpus: {corpus: synthetic}
tokens: {fit: 6000, evaluation: 3000}
methods: [identity]
"""
LAUGHS = "l0: &l0 [x, x]\n" + "".join(f"l{i + 1}: &l{i + 1} [{', '.join([f'*l{i}'] * 9)}]\n" for i in range(9))
PAIRS = "m0: &m0 {a: 1}\n" + "".join(f"m{i + 1}: &m{i + 1} {{a: *m{i}, b: *m{i}}}\n" for i in range(40))
NINE = ["'${n%d}'"] * 9
REFERENCES = "n0: x\n" + "".join(f"n{i + 1}: [{', '.join(NINE)}]\n".replace("%d", str(i)) for i in range(9))
TEXTS = "t0: xxxxxxxx\n" + "".join(f"t{i + 1}: '{f'${{t{i}}}' * 8}'\n" for i in range(12))
WORST = {
    "billion laughs": (LAUGHS, r"line \d+: its aliases come to more than"),
    "mappings that double": (PAIRS, "its aliases come to more than"),
    "references that multiply": (REFERENCES, r"\$\{...\} refers to comes to more than can be held"),
    "texts that multiply": (TEXTS, "comes to more than can be held"),
    "an alias that holds itself": ("a: &a [*a]\n", r"line 6: \*a is part of what it stands for"),
    "a reference to itself": ("a: [1, '${a}']\n", "refers to itself"),
    "a reference in a ring": ("a: ${b}\nb: {c: '${a}'}\n", "refers to itself"),
    "a reference in a reference": ("a: ${${b}}\n", "within"),
    "brackets": (f"a: {'[' * 1000}{']' * 1000}\n", "line 6: it is nested more than 64 deep"),
    "open brackets": (f"a: {'{' * 5000}\n", "nested more than 64 deep"),
    "blocks": ("a:\n" + "".join(" " * i + "-\n" for i in range(1, 200)), "nested more than 64 deep"),
    "digits": (f"latents: {'9' * 5000}\n", "latents|digits"),
    "hexadecimal digits": (f"latents: 0x{'f' * 6000}\n", "latents: a number of 24,000 bits"),
    "a seed": (f"seeds: [{'9' * 30}]\n", r"seeds\.0: a number of 100 bits"),
    "no flag": ("a: !!bool maybe\n", "KeyError: 'maybe'"),
    "a call": ("a: !!python/object/apply:os.system ['false']\n", "constructor for the tag"),
    "two of a key": ("latents: 1\nlatents: 2\n", "duplicate key latents"),
    "merged from nothing": ("<<: *nothing\n", "undefined alias"),
    "merged from a number": ("<<: 3\n", "expected a mapping"),
    "a NUL": ("a: \x00\n", "x0000"),
    "half a character": ('a: "\\ud800"\n', "line|Unicode|position|a: unknown key"),
    "defaults that are a number": ("defaults: 3\n", "can't be composed"),
    "a file that names itself": ("defaults: [worst]\n", "can't be composed"),
}


@pytest.fixture
def suite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "conf/suite/worst.yaml"
    path.parent.mkdir(parents=True)
    return path


@pytest.mark.parametrize("name", WORST)
def test_each_is_one_error_that_names_the_suite(name: str, suite: Path) -> None:
    more, reason = WORST[name]
    suite.write_text(SUITE + more)
    with pytest.raises(ConfigError, match=reason) as caught:
        compose(["suite=worst"])
    assert len(str(caught.value)) < 2000


@pytest.mark.parametrize("header", ["_global_: x", "", "a b c", "_global_ x"])
def test_a_header_that_is_none_is_said_with_its_file(header: str, suite: Path) -> None:
    suite.write_text(SUITE.replace("_global_", header, 1))
    with pytest.raises(ConfigError, match=r"worst"):
        compose(["suite=worst"])


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"\xff\xfea\x00", "Save the file as UTF-8"),
        (SUITE.encode() + b"a: \xff\n", "Save the file as UTF-8"),
        (b"#" * (MAX_BYTES + 1), "worst.yaml: it is larger than 262,144 bytes"),
        (b"[1]", "worst"),
        (b"", "first line must be"),
    ],
)
def test_what_is_no_text_of_a_suite_is_refused(content: bytes, reason: str, suite: Path) -> None:
    suite.write_bytes(content)
    with pytest.raises(ConfigError, match=reason):
        compose(["suite=worst"])


@pytest.mark.parametrize(
    ("override", "reason"),
    [
        ("seeds=" + "[" * 100 + "]" * 100, "nested more than 64 deep"),
        (".".join("a" * 100) + "=1", "nested more than 64 deep"),
        ("seeds=[" + "1," * 9000 + "1]", "18,009 characters, and may have 8,192"),
        ("latents=" + "9" * 5000, "digits"),
        ("models." + "9" * 5000 + "=1", "digits"),
        ("seeds=[" + "9" * 30 + "]", r"seeds\.0: a number of 100 bits"),
        ("latents=${latents}", "refers to itself"),
        ("judge={judge: local, path: inf}", r"judge\.path: inf is no finite number"),
        ("corpus=null", "corpus: missing; the models need texts"),
    ],
)
def test_overrides_at_their_worst(override: str, reason: str, suite: Path) -> None:
    suite.write_text(SUITE)
    with pytest.raises(ConfigError, match=reason) as caught:
        compose(["suite=worst", override])
    assert len(str(caught.value)) < 2000


def test_aliases_merges_and_references_of_the_usual_size_are_read(suite: Path) -> None:
    more = "latents: 7\ncontext: ${latents}\nwandb: {project: '${.mode}_${oc.env:NONE,x}', mode: offline}\n"
    suite.write_text(SUITE.replace("fit: 6000", "<<: {fit: 700}") + more)
    config = compose(["suite=worst"])[0].config
    assert (config.tokens.fit, config.context, config.wandb.project) == (700, 7, "offline_x")


def test_a_stored_suite_is_looked_at_as_well(tmp_path: Path) -> None:
    for content in (LAUGHS, "a: &a [*a]\n", f"latents: 0x{'f' * 6000}\n", "a: 2020-13-45\n", "[" * 9999):
        (tmp_path / "suite.yaml").write_text(content)
        with pytest.raises(ConfigError):
            load_resolved(tmp_path / "suite.yaml")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no devices here")
def test_a_device_is_no_file() -> None:
    with pytest.raises(ConfigError, match="no regular file"):
        checked_text(Path("/dev/zero"))


@pytest.mark.parametrize(
    "values", [{"a": [{"b": 2**63 - 1}]}, {"a": "${b}", "b": {"c": "${.d}", "d": 1}}, [], None, "x"]
)
def test_the_usual_passes(values: Any) -> None:
    check_numbers(values)
    check_references(values)


def test_a_wide_file_is_looked_at_in_one_go(tmp_path: Path) -> None:
    wide = {f"k{i}": i for i in range(5000)}
    (tmp_path / "wide.yaml").write_text(yaml.safe_dump(wide))
    assert yaml.safe_load(checked_text(tmp_path / "wide.yaml")) == wide
    check_references(wide)
