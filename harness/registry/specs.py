"""Specs, one class for each kind: what a plugin registers, cheap to list; its implementation is imported when used.

The words of `needs` and `provides` are a list for each kind, and each class says what they mean.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, TypeAlias, TypeVar, get_args

from harness.errors import PluginError, suggest
from harness.registry.metric import Metric

W = TypeVar("W", bound=str)
Factory: TypeAlias = str | Callable[..., Any]
OfConfig: TypeAlias = str | Callable[[Any], Any]
"""`"module:attribute"` or a callable, called with the config when planning: it must not import torch."""
Needs: TypeAlias = tuple[W, ...] | str | Callable[[Any], tuple[W, ...]]
"""Words, or a function that gives them for a config where they depend on the parameters; see `OfConfig`."""

Capability: TypeAlias = Literal["choose", "generate", "likelihood", "embed"]
MethodNeed: TypeAlias = Literal["fit"]
MethodProperty: TypeAlias = Literal["atoms", "dictionary", "stacks"]
SimilarityNeed: TypeAlias = Literal["atoms", "dictionary", "codes"]
ExplainerNeed: TypeAlias = Literal[Capability, "model", "head", "atoms"]
ScorerNeed: TypeAlias = Literal[ExplainerNeed, "explanation"]
ScorerProperty: TypeAlias = Literal["floor"]
TaskNeed: TypeAlias = Literal["values", "rows"]
EvaluationNeed: TypeAlias = Literal["model", "head", "labels", "texts", "truth", "dictionary", "atoms"]
ModelProperty: TypeAlias = Literal["rows"]
Words: TypeAlias = dict[str, tuple[str, ...]]
CAPABILITIES: tuple[Capability, ...] = get_args(Capability)
"""Kinds of request that a judge may answer; embeddings only where it is the suite's encoder."""


@dataclass(frozen=True)
class PluginSpec:
    """One thing that a plugin offers; register one of the ten kinds below.

    Args:
        name: lower case letters, digits and `_`; what users write in a suite.
        version: raise it whenever results change; cells made by another version become stale.
        summary: one line for `harness list`.
        factory: `"module:attribute"`, imported when first used, or a callable; called with the config.
        config: a dataclass whose fields are the parameters; None for no parameters. The string below a field is its
            meaning, for `harness show`.
        identity: for parameters that name a place (a folder, a glob), or that came later and are to leave old results
            valid at their default: `"module:attribute"` or a callable that turns the config into what results depend
            on, such as checksums. Called when planning: it must not import torch.
    """

    kind: ClassVar[str] = ""
    words: ClassVar[Words] = {}
    """The valid words of `needs` and `provides`, where the kind has them."""

    name: str
    version: int
    summary: str
    factory: Factory
    config: type | None = None
    identity: OfConfig | None = None

    @property
    def needs(self) -> Needs[Any]:
        """Nothing, where the kind has no such field."""
        return ()

    @property
    def provides(self) -> tuple[str, ...]:
        """Nothing, where the kind has no such field."""
        return ()

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """Nothing, where the kind has no such field."""
        return ()


@dataclass(frozen=True, kw_only=True)
class MethodSpec(PluginSpec):
    """A method, whose factory makes learners.

    Args:
        origin: for a method that brings along what was learnt elsewhere: like `identity`, but gives a `harness.Origin`,
            which says where that was. At other places it is skipped, with the reason.

    `needs`:
        `"fit"`: the fit of another method of the suite, on the same rows with the same seed, as `info.base`. The config
            has a field `of: str`, with which users name that method.
    `provides`, of what it learns, known without importing the factory:
        `"atoms"`: its latents are rows of the data, so that fits of different models can be compared.
        `"dictionary"`: each latent has a direction.
        `"stacks"`: its learners may learn in one computation (see `Stackable`): one worker does all of a site.
    """

    kind: ClassVar[str] = "method"
    words: ClassVar[Words] = {"needs": get_args(MethodNeed), "provides": get_args(MethodProperty)}

    origin: OfConfig | None = None
    needs: Needs[MethodNeed] = ()
    provides: tuple[MethodProperty, ...] = ()


@dataclass(frozen=True, kw_only=True)
class SimilaritySpec(PluginSpec):
    """A similarity. It compares representations, unless it needs something of two decompositions.

    `needs`:
        `"atoms"`: of both; fits with one seed are compared between sites.
        `"dictionary"`: the directions of both; fits of one site are compared between seeds.
        `"codes"`: of the rows that both sides share; compared between sites and between seeds.
    """

    kind: ClassVar[str] = "similarity"
    words: ClassVar[Words] = {"needs": get_args(SimilarityNeed)}

    needs: Needs[SimilarityNeed] = ()


@dataclass(frozen=True, kw_only=True)
class ScorerSpec(PluginSpec):
    """A scorer of latents. One without `needs` runs without judge, encoder and model.

    `needs`, by whom its requests are answered:
        `"choose"`, `"generate"`, `"likelihood"`: a judge that provides it.
        `"embed"`: the suite's encoder, or a judge that provides it.
        `"model"`: the model that is decomposed, run on texts (`Activate`).
        `"head"`: that model's predictions of next tokens (`Steer`, `Unembed`).
    and what has to be there besides:
        `"atoms"`: the latents are rows of the data, and have a text.
        `"explanation"`: it is asked once for each explainer of the suite.
    `provides`:
        `"floor"`: a table of tokens scores as well; boards show it beside the others.
    """

    kind: ClassVar[str] = "scorer"
    words: ClassVar[Words] = {"needs": get_args(ScorerNeed), "provides": get_args(ScorerProperty)}

    needs: Needs[ScorerNeed] = ()
    provides: tuple[ScorerProperty, ...] = ()


@dataclass(frozen=True, kw_only=True)
class ExplainerSpec(PluginSpec):
    """An explainer of latents. One without `needs` runs without judge, encoder and model.

    `needs`, by whom its requests are answered:
        `"choose"`, `"generate"`, `"likelihood"`: a judge that provides it.
        `"embed"`: the suite's encoder, or a judge that provides it.
        `"model"`: the model that is decomposed, run on texts (`Activate`).
        `"head"`: that model's predictions of next tokens (`Steer`, `Unembed`).
    and what has to be there besides:
        `"atoms"`: the latents are rows of the data, and have a text.
    """

    kind: ClassVar[str] = "explainer"
    words: ClassVar[Words] = {"needs": get_args(ExplainerNeed)}

    needs: Needs[ExplainerNeed] = ()


@dataclass(frozen=True, kw_only=True)
class JudgeSpec(PluginSpec):
    """A judge, which scorers and explainers ask.

    What its answers to one kind of request alone depend on may stand in its `identity` under the kind's name, in place
    of what has the same names beside it: `{"model": "m", "EmbedText": {"model": "e"}}`.

    `provides`, each a method of that name:
        `"choose"`: how likely each of several answers is.
        `"generate"`: an answer in its own words.
        `"likelihood"`: how likely a text is after another.
        `"embed"`: a vector for a text.
    """

    kind: ClassVar[str] = "judge"
    words: ClassVar[Words] = {"provides": CAPABILITIES}

    provides: tuple[Capability, ...] = ()


@dataclass(frozen=True, kw_only=True)
class TaskSpec(PluginSpec):
    """A task that judges similarities.

    Args:
        pairs: `"module:attribute"` or a callable that says of the config and two `ComparedSite`s whether the task asks
            for this pair. Called when planning: it must not import torch.

    `needs`, of these pairs:
        `"values"`: what the similarity says of them.
        `"rows"`: the rows that both sites share, which the task has compared; so also where nothing is said.
    """

    kind: ClassVar[str] = "task"
    words: ClassVar[Words] = {"needs": get_args(TaskNeed)}

    pairs: str | Callable[[Any, Any, Any], bool]
    needs: Needs[TaskNeed] = ()


@dataclass(frozen=True, kw_only=True)
class EvaluationSpec(PluginSpec):
    """An evaluation of decompositions.

    Args:
        metrics: what it measures; see `harness.Metric`. Rows of other metrics are in its table too, and nothing is
            known of them.

    `needs`, beyond rows; where it is absent the cell is skipped, with the reason:
        `"model"`: the model, to run on from its rows or from others in their place (`context.replays`).
        `"head"`: what the model then predicts (`context.replays`).
        `"labels"`: of the documents (`context.labels`).
        `"texts"`: of the rows' tokens, and rows of other texts (`context.tokens`, `context.elsewhere`).
        `"truth"`: the features that rows were made of (`context.truth`).
        `"dictionary"`: a direction for each latent.
        `"atoms"`: latents that are rows of the data.
    """

    kind: ClassVar[str] = "evaluation"
    words: ClassVar[Words] = {"needs": get_args(EvaluationNeed)}

    needs: Needs[EvaluationNeed] = ()
    metrics: tuple[Metric, ...] = ()


@dataclass(frozen=True, kw_only=True)
class ModelSpec(PluginSpec):
    """A model whose activations are captured.

    Args:
        shape: like `identity`, but gives `{"n_layers": ..., "width": ...}`, or None where unknown, so that a plan can
            check sites and estimate disk. It may have the widths at `"mlp_act"` and `"attn_z"` too, 0 where there is
            no such site. With `n_parameters`, where that is known, families are compared across sizes.

    `provides`:
        `"rows"`: it has rows of its own, and runs no texts: no corpus is needed.
    """

    kind: ClassVar[str] = "model"
    words: ClassVar[Words] = {"provides": get_args(ModelProperty)}

    shape: OfConfig | None = None
    provides: tuple[ModelProperty, ...] = ()


@dataclass(frozen=True, kw_only=True)
class CorpusSpec(PluginSpec):
    """A corpus of documents."""

    kind: ClassVar[str] = "corpus"


@dataclass(frozen=True, kw_only=True)
class BehaviourSpec(PluginSpec):
    """A behaviour: contrasting pairs of texts."""

    kind: ClassVar[str] = "behaviour"


_CLASSES: tuple[type[PluginSpec], ...] = (
    *(MethodSpec, SimilaritySpec, ScorerSpec, ExplainerSpec, ModelSpec),
    *(CorpusSpec, BehaviourSpec, EvaluationSpec, TaskSpec, JudgeSpec),
)
SPEC_CLASSES = {cls.kind: cls for cls in _CLASSES}
KINDS = tuple(SPEC_CLASSES)


def Spec(  # noqa: N802  # it stands for the classes
    kind: str, name: str, version: int, summary: str, factory: Factory, config: type | None = None, **fields: Any
) -> PluginSpec:
    """The older form: `Spec(kind="method", ...)` is `MethodSpec(...)`, and so for each kind."""
    where = f"Spec {kind}/{name}"
    if kind not in SPEC_CLASSES:
        raise PluginError(f"{where}: unknown kind {kind!r}.{suggest(str(kind), KINDS)}")
    cls = SPEC_CLASSES[kind]
    known = [field.name for field in dataclasses.fields(cls)]
    for field in fields:
        if field not in known:
            raise PluginError(f"{where}: {cls.__name__} has no field {field!r}.{suggest(field, known)}")
    if kind == "task" and fields.get("pairs") is None:
        raise PluginError(f"{where}: pairs is missing; name a function of the config and two sites of a suite.")
    return cls(name, version, summary, factory, config, **fields)
