"""Suites and presets in `conf/` of the working folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import ConfigError
from harness.planning.config import compose

SUITE = """# @package _global_
models: [{model: random_weights, label: mine, sites: [resid_post.1]}]
corpus: synthetic
tokens: {fit: 500, evaluation: 300}
methods: [mean]
"""


@pytest.fixture
def conf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "conf" / "suite" / "sub").mkdir(parents=True)
    (tmp_path / "conf" / "suite" / "mine.yaml").write_text(SUITE)
    return tmp_path / "conf"


def test_another_projects_config_is_not_in_the_way(conf: Path) -> None:
    (conf / "config.yaml").write_text("lr: 0.1\nseeds: [7]\n")
    suite, _ = compose(["suite=mine"])
    assert suite.config.name == "mine" and suite.config.seeds == [0]


def test_suites_and_presets_may_lie_in_folders(conf: Path) -> None:
    (conf / "suite" / "sub" / "deep.yaml").write_text(SUITE.replace("corpus: synthetic", "corpus: sub/few"))
    (conf / "corpus" / "sub").mkdir(parents=True)
    (conf / "corpus" / "sub" / "few.yaml").write_text("corpus: synthetic\nn_documents: 20\n")
    suite, _ = compose(["suite=sub/deep"])
    assert suite.config.name == "sub.deep"
    assert suite.config.corpus == {"corpus": "synthetic", "n_documents": 20}
    with pytest.raises(ConfigError, match=r"unknown suite 'sub/deap'\. Did you mean 'sub/deep'"):
        compose(["suite=sub/deap"])


def test_a_byte_order_mark_is_no_text(conf: Path) -> None:
    (conf / "suite" / "marked.yaml").write_text(SUITE.replace("synthetic", "marked"), encoding="utf-8-sig")
    (conf / "corpus").mkdir()
    (conf / "corpus" / "marked.yaml").write_text("corpus: synthetic\n", encoding="utf-8-sig")
    suite, _ = compose(["suite=marked"])
    assert suite.config.corpus == {"corpus": "synthetic"}


def test_a_suite_in_another_encoding_is_to_be_saved_anew(conf: Path) -> None:
    (conf / "suite" / "wide.yaml").write_text(SUITE, encoding="utf-16")
    with pytest.raises(ConfigError, match=r"suite=wide: can't be composed: .*Save the file as UTF-8"):
        compose(["suite=wide"])


@pytest.mark.parametrize(
    "text",
    [
        SUITE + "hydra: {run: {dir: elsewhere}}\n",
        SUITE.replace("models:", "defaults: [{override /hydra/launcher: basic}]\nmodels:"),
        SUITE.replace("corpus: synthetic", "defaults: [/far/launcher, _self_]\ncorpus: synthetic"),
    ],
)
def test_settings_of_hydra_itself_are_refused(conf: Path, text: str) -> None:
    """They were dropped without a word: whoever gave `hydra.run.dir` looked for results there."""
    (conf / "far").mkdir()
    (conf / "far" / "launcher.yaml").write_text("# @package hydra.launcher\nn_jobs: 4\n")
    (conf / "suite" / "mine.yaml").write_text(text)
    with pytest.raises(ConfigError, match=r"conf/(suite/mine|far/launcher)\.yaml has settings of Hydra's own"):
        compose(["suite=mine"])


def test_hidden_files_are_no_suites(conf: Path) -> None:
    (conf / "suite" / "._mine.yaml").write_bytes(b"\0\5\26\7")
    (conf / "suite" / ".ipynb_checkpoints").mkdir()
    (conf / "suite" / ".ipynb_checkpoints" / "mine-checkpoint.yaml").write_text(SUITE)
    with pytest.raises(ConfigError) as caught:
        compose([])
    assert "mine" in str(caught.value) and "._mine" not in str(caught.value) and "checkpoint" not in str(caught.value)


def test_a_file_that_would_not_be_read_is_named(conf: Path) -> None:
    (conf / "suite" / "other.yml").write_text(SUITE)
    with pytest.raises(ConfigError, match=r"unknown suite 'other'. conf/suite/other.yml is not read: rename"):
        compose(["suite=other"])
    for word in ("mine.yaml", "conf/suite/mine", "conf/suite/mine.yaml"):
        with pytest.raises(ConfigError, match=f"unknown suite '{word}'. Give the name alone: suite=mine"):
            compose([f"suite={word}"])
    for word in ("[mine]", "/mine", "./mine", "../suite/mine", "m*"):
        with pytest.raises(ConfigError) as caught:
            compose([f"suite={word}"])
        assert "is not read" not in str(caught.value)
    (conf / "suite" / "smoke.yaml").write_text(SUITE)
    with pytest.raises(ConfigError, match=r"conf/suite/smoke.yaml: the harness comes with a suite 'smoke'. Rename"):
        compose(["suite=smoke"])


def test_a_preset_counts_that_is_named_like_a_plugin(conf: Path) -> None:
    """The plugin without its values was taken, unless an override changed a parameter of it."""
    for group, content in (("corpus", "corpus: synthetic\nn_documents: 70\n"), ("model", "model: random_weights\n")):
        (conf / group).mkdir()
        name = content.split("\n")[0].partition(": ")[2]
        (conf / group / f"{name}.yaml").write_text(content + ("n_layers: 3\n" if group == "model" else ""))
    words = ["suite=mine", "models=[random_weights]", "sites=[resid_post.1]"]
    for more in ([], ["corpus.seed=3", "models.0.seed=1"]):
        suite, _ = compose([*words, *more])
        assert suite.corpus and suite.corpus.params["n_documents"] == 70
        assert suite.models[0].entry.params["n_layers"] == 3
    suite, _ = compose([*words, "corpus={corpus: synthetic}"])
    assert suite.corpus and suite.corpus.params["n_documents"] == 400
