"""The resolved suite that a run writes down: people read it, and commands only as it was written."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import pytest
import yaml
from hydra.core.config_store import ConfigStore

from harness.errors import ConfigError
from harness.planning.config import compose, differences, dump_resolved, load_resolved, write_resolved


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("results") / "suite.yaml"
    write_resolved(path, compose(["suite=smoke"])[0].config)
    return path.read_bytes()


def test_it_is_read_as_it_was_written_whatever_its_line_ends(tmp_path: Path, content: bytes) -> None:
    config = compose(["suite=smoke"])[0].config
    assert yaml.safe_load(content) == yaml.safe_load(dump_resolved(config))
    for written in (content, content.replace(b"\n", b"\r\n"), b"\xef\xbb\xbf" + content):
        (tmp_path / "suite.yaml").write_bytes(written)
        assert load_resolved(tmp_path / "suite.yaml")[0].config == config


@pytest.mark.parametrize(
    ("old", "new"),
    [(b"fit: 6000", b"fit: 6001"), (b"checksum", b"checksun"), (b"# ch", b"#"), (b"tokens:\n", b""), (b"\n", b"")],
)
def test_one_that_was_edited_or_is_damaged_is_refused_with_what_to_do(
    tmp_path: Path, content: bytes, old: bytes, new: bytes
) -> None:
    path = tmp_path / "suite.yaml"
    assert old in content
    path.write_bytes(content.replace(old, new))
    with pytest.raises(ConfigError, match=r"give its keys to `harness run`.*once its first line is taken out"):
        load_resolved(path)
    (said,) = differences(path, compose(["suite=smoke"])[0].config)
    assert "is damaged" in said


def test_no_flipped_bit_and_no_cut_makes_another_suite_of_it(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "suite.yaml"
    damaged = [content[:place] for place in range(0, len(content), 97)]
    damaged += [bytes([content[0] ^ 1 << bit]) + content[1:] for bit in range(8)]
    for one in damaged:
        path.write_bytes(one)
        with pytest.raises(ConfigError):
            load_resolved(path)


def test_an_edited_one_is_read_without_its_first_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "suite.yaml"
    path.write_bytes(content.partition(b"\n")[2].replace(b"fit: 6000", b"fit: 6001"))
    assert load_resolved(path)[0].config.tokens.fit == 6001


def test_those_of_the_version_before_are_read(tmp_path: Path) -> None:
    config = compose(["suite=smoke"])[0].config
    (tmp_path / "suite.yaml").write_text(dump_resolved(config))
    assert load_resolved(tmp_path / "suite.yaml")[0].config == config


@pytest.mark.parametrize("suite", ["smoke", "no_such"])
def test_the_hydra_of_who_calls_is_left_as_it_was(suite: str) -> None:
    """An application with a logging of its own by Hydra may use the harness."""
    before = ConfigStore.instance().load("hydra/config.yaml").node
    with nullcontext() if suite == "smoke" else pytest.raises(ConfigError):
        compose([f"suite={suite}"])
    assert ConfigStore.instance().load("hydra/config.yaml").node == before
    assert {"job_logging": "default"} in before["defaults"]
