"""Overrides of a suite: each one counts, in whatever order, or is refused."""

from __future__ import annotations

from typing import Any

import pytest
from omegaconf import OmegaConf

from harness.errors import ConfigError
from harness.planning import overrides
from harness.planning.config import compose

BASE = {
    "corpus": {"corpus": "synthetic", "n_documents": 50},
    "encoder": {"preset": "minilm-l6"},
    "judge": None,
    "tokens": {"fit": 10, "evaluation": 5},
    "methods": ["mean", {"method": "pca", "n_components": 4, "k": 2}],
    "seeds": [0],
}


def applied(*words: str) -> dict[str, Any]:
    config = OmegaConf.create(BASE)
    overrides.apply(words, config, {"corpus": ["wikipedia"], "model": ["pythia-70m", "minilm-l6"]}.__getitem__)
    found = OmegaConf.to_container(config, resolve=True)
    assert isinstance(found, dict)
    return {str(key): value for key, value in found.items()}


@pytest.mark.parametrize(
    ("words", "key", "expected"),
    [
        (["corpus=synthetic", "corpus.seed=3"], "corpus", {"corpus": "synthetic", "seed": 3}),
        (["corpus.seed=3", "corpus=synthetic"], "corpus", {"corpus": "synthetic", "seed": 3}),
        (["corpus.seed=3"], "corpus", {"corpus": "synthetic", "n_documents": 50, "seed": 3}),
        (["corpus=wikipedia"], "corpus", "wikipedia"),
        (["corpus=wikipedia", "corpus.name=bible"], "corpus", {"preset": "wikipedia", "name": "bible"}),
        (["corpus={corpus: files, paths: [a.txt]}"], "corpus", {"corpus": "files", "paths": ["a.txt"]}),
        (["corpus={seed: 3}"], "corpus", {"corpus": "synthetic", "n_documents": 50, "seed": 3}),
        (["corpus=null"], "corpus", None),
        (["judge=local", "judge.size=7"], "judge", {"judge": "local", "size": 7}),
        (["judge.size=7", "judge=local"], "judge", {"judge": "local", "size": 7}),
        (["encoder={model: hf, path: x}"], "encoder", {"model": "hf", "path": "x"}),
        (["encoder=minilm-l6", "encoder.dtype=bfloat16"], "encoder", {"preset": "minilm-l6", "dtype": "bfloat16"}),
        (["models.0.sites=[a]", "models=[pythia-70m]"], "models", [{"preset": "pythia-70m", "sites": ["a"]}]),
        (["methods=[itda]", "methods.0.k=8"], "methods", [{"method": "itda", "k": 8}]),
        (["methods.0.k=8"], "methods", [{"method": "mean", "k": 8}, BASE["methods"][1]]),
        (["methods.1={method: itda, k: 3}"], "methods", ["mean", {"method": "itda", "k": 3}]),
        (["~methods.0"], "methods", BASE["methods"][1:]),
        (["~methods.0", "~methods.1"], "methods", []),
        (["~methods.0", "methods.1.k=3"], "methods", [{"method": "pca", "n_components": 4, "k": 3}]),
        (["~methods.0", "~methods.1.k", "methods.1.n_components=3"], "methods", [{"method": "pca", "n_components": 3}]),
        (["~methods.1", "methods=[mean,pca,itda]", "~methods.0"], "methods", ["itda"]),
        (["~corpus.n_documents"], "corpus", {"corpus": "synthetic"}),
        (["tokens.interp=7", "tokens={fit: 20}"], "tokens", {"fit": 20, "evaluation": 5, "interp": 7}),
        (["seeds=[1]", "seeds=[2]"], "seeds", [2]),
        (["+new.key=1"], "new", {"key": 1}),
        (["latents=${tokens.fit}", "tokens.fit=12"], "latents", 12),
    ],
)
def test_every_override_counts(words: list[str], key: str, expected: object) -> None:
    assert applied(*words)[key] == expected


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("tokens.fit", "override 'tokens.fit': missing EQUAL at '<EOF>' Write key=value, quoted for the shell."),
        ("context=64,128", "override 'context=64,128': a sweep is a list here: [value1,value2]"),
        ("=3", "override '=3': no key of a suite"),
        ("suite@x=3", "no key of a suite"),
        ("methods.7.k=3", "override 'methods.7.k=3': list index out of range"),
        (
            "tasks.0.k=3",
            "override 'tasks.0.k=3': tasks is no list here, so it has no entry 0. Write tasks=[...] as well.",
        ),
        ("~jugde", "override '~jugde': there is no such key to delete"),
        ("~methods.2", "there is no such key to delete"),
        (
            "~seeds=5",
            "'~seeds=5': ~ deletes a key whatever its value. Write ~seeds, or seeds=value to set it.",
        ),
        ("~methods=[mean]", "Write ~methods, or methods=value"),
        ("~seeds=", "Write ~seeds, or seeds=value"),
        ("corpus=[wikipedia]", "override 'corpus=[wikipedia]': "),
    ],
)
def test_what_can_not_count_is_refused(word: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        applied(word, "~nothing")
    assert len(caught.value.problems) == 2 and message in str(caught.value)


def test_a_composed_suite_has_them() -> None:
    suite, _ = compose(["suite=smoke", "corpus.n_documents=200", "corpus=synthetic", "methods=[mean]"])
    assert suite.config.corpus == {"corpus": "synthetic", "n_documents": 200}
    assert suite.corpus and suite.corpus.params["n_documents"] == 200
    for word in ("corpus.nonsense=3", "methods.0.nonsense=3"):
        with pytest.raises(ConfigError, match="nonsense: unknown key"):
            compose(["suite=smoke", "corpus=synthetic", "methods=[mean]", word])
    with pytest.raises(ConfigError, match="suite: smoke and quickstart are given; give one"):
        compose(["suite=smoke", "suite=quickstart"])
