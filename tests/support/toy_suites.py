"""A catalog of small plugins whose versions a test can raise, and suites made from it."""

from __future__ import annotations

import dataclasses
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from harness.errors import ConfigError
from harness.planning.plan import Plan, build_plan
from harness.planning.resolver import resolve
from harness.registry.metric import Metric
from harness.registry.plugin_manager import Catalog, Registered
from harness.registry.specs import Spec


@dataclass
class MethodConfig:
    k: int = 4
    threshold: float = 0.2


@dataclass
class GroupingConfig:
    of: str
    at: int = 3


@dataclass
class ModelConfig:
    path: str
    dtype: Literal["float32", "bfloat16"] = "float32"
    device: str = "auto"
    n_layers: int = 6


@dataclass
class CorpusConfig:
    n_documents: int = 100


@dataclass
class JudgeConfig:
    size: int = 1
    device: str = "auto"


@dataclass
class MatchingConfig:
    by: Literal["dictionary", "codes"] = "dictionary"


def _needs(config: MatchingConfig) -> tuple[str, ...]:
    return (config.by,)


def _identity(config: ModelConfig) -> dict[str, Any]:
    return {"contents": Path(config.path, "weights").read_text(), "dtype": config.dtype}


def _shape(config: ModelConfig) -> dict[str, int]:
    return {"n_layers": config.n_layers, "width": 32}


METRICS = (
    Metric("explained_variance", "explained variance", "how much", True, ".4f", "quality", highest=1),
    Metric("l0", "L0", "with how many", None, ".1f", "sparsity"),
    Metric("cosine_error", "1\N{NO-BREAK SPACE}−\N{NO-BREAK SPACE}cos", "in which direction", False, ".4f", "compared"),
    Metric("ce_increase", "CE increase (nats)", "what it costs", False, ".3f", "effect"),
    Metric("alive_fraction", "alive", "of all latents", True, ".3f", "listed"),
)
SPECS = (
    Spec("method", "atomic", 1, "has atoms", "x:Y", MethodConfig, provides=("atoms", "dictionary")),
    Spec("method", "dense", 1, "has none", "x:Y", MethodConfig),
    Spec("method", "stacking", 1, "may learn in one computation", "x:Y", MethodConfig, provides=("stacks",)),
    Spec("method", "grouping", 1, "learns from a fit", "x:Y", GroupingConfig, needs=("fit",)),
    Spec("similarity", "overlap", 1, "of decompositions", "x:Y", needs=("atoms",)),
    Spec("similarity", "stability", 1, "of directions", "x:Y", needs=("dictionary",)),
    Spec("similarity", "matching", 1, "as its parameters say", "x:Y", MatchingConfig, needs=_needs),
    Spec("similarity", "angle", 1, "of representations", "x:Y"),
    Spec("evaluation", "quality", 1, "of one decomposition", "x:Y", metrics=METRICS),
    Spec("scorer", "lookup", 1, "asks nobody", "x:Y", provides=("floor",)),
    Spec("scorer", "retrieval", 1, "asks an encoder", "x:Y", needs=("embed",)),
    Spec("scorer", "provenance", 1, "only of atoms", "x:Y", needs=("embed", "atoms")),
    Spec("scorer", "asking", 1, "asks a judge", "x:Y", needs=("choose",)),
    Spec("scorer", "writing", 1, "has a judge write", "x:Y", needs=("generate",)),
    Spec("scorer", "reading", 1, "reads explanations", "x:Y", needs=("embed", "explanation")),
    Spec("explainer", "rule", 1, "asks nobody", "x:Y"),
    Spec("explainer", "author", 1, "has a judge write", "x:Y", needs=("generate",)),
    Spec("judge", "chooser", 1, "only chooses", "x:Y", JudgeConfig, provides=("choose",)),
    Spec("judge", "talker", 1, "does all", "x:Y", JudgeConfig, provides=("choose", "generate")),
    Spec("judge", "embedder", 1, "chooses and embeds", "x:Y", JudgeConfig, provides=("choose", "embed")),
    Spec("model", "toy", 1, "has a path", "x:Y", ModelConfig, identity=_identity, shape=_shape),
    Spec("model", "own_rows", 1, "reads no corpus", "x:Y", provides=("rows",)),
    Spec("corpus", "texts", 1, "has texts", "x:Y", CorpusConfig),
)


def catalog(**versions: int) -> Catalog:
    """The specs above, some at another version."""
    found = Catalog()
    for spec in SPECS:
        spec = dataclasses.replace(spec, version=versions.get(spec.name, spec.version))
        found.entries[spec.kind, spec.name] = Registered(spec, sys.modules[__name__], "here", "1")
    return found


def model_folder(folder: Path, contents: str) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "weights").write_text(contents)
    return str(folder)


def raw_suite(folder: Path, **changes: Any) -> dict[str, Any]:
    """Two models, two sites, two methods, two seeds, every kind of comparison."""
    return {
        "name": "example",
        "models": [
            {"model": "toy", "path": model_folder(folder / "a", "a"), "label": "model-a", "family": "toys"},
            {"model": "toy", "path": model_folder(folder / "b", "b"), "label": "model-b", "family": "toys"},
        ],
        "sites": ["resid_post.1", "mlp_out.2"],
        "corpus": {"corpus": "texts"},
        "tokens": {"fit": 1000, "evaluation": 200},
        "methods": ["atomic", {"method": "dense", "k": 8}],
        "similarities": ["angle", "overlap"],
        "evaluations": ["quality"],
        "seeds": [0, 1],
    } | changes


def no_preset(group: str, name: str) -> dict[str, Any]:
    raise ConfigError(f"unknown {group} {name!r}.")


def plan_of(raw: dict[str, Any], **versions: int) -> Plan:
    return build_plan(resolve(raw, catalog(**versions), no_preset))
