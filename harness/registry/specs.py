"""What a plugin registers: a small frozen description, cheap to list, whose implementation is imported when used."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from harness.errors import PluginError, suggest
from harness.registry.metric import Metric, check_metrics
from harness.registry.parameters import field_types

KINDS = ("method", "similarity", "scorer", "explainer", "model", "corpus", "evaluation", "task", "judge")
_NAME = re.compile(r"[a-z][a-z0-9_]*")


@dataclass(frozen=True)
class Spec:
    """One thing that a plugin offers.

    Args:
        kind: one of `KINDS`.
        name: lower case letters, digits and `_`; what users write in a suite.
        version: raise it whenever results change; cells made by another version become stale.
        summary: one line for `harness list`.
        factory: `"module:attribute"`, imported when first used, or a callable; called with the config.
        config: a dataclass whose fields are the parameters; None for no parameters.
        identity: for parameters that name a place (a folder, a glob), or that came later and are to leave old results
            valid at their default: `"module:attribute"` or a callable that turns the config into what results depend
            on, such as checksums. Called when planning: it must not import torch.
            What a judge's answers to one kind of request alone depend on may stand under the kind's name, in place of
            what has the same names beside it: `{"model": "m", "EmbedText": {"model": "e"}}`.
        shape: for a model: like `identity`, but gives `{"n_layers": ..., "width": ...}`, or None where unknown, so that
            a plan can check sites and estimate disk.
        provides: properties that others may need, known without importing the factory: `"atoms"`, `"dictionary"`. For
            a judge, what it can be asked: `"choose"`, `"generate"`, `"likelihood"`, `"embed"`.
        needs: for a similarity, what it needs of two decompositions (empty: it compares representations): `"atoms"`,
            compared between sites; `"dictionary"`, whose directions are compared between the seeds of a site; or
            `"codes"` of the rows that two sides share, compared both ways. For an evaluation, what it needs beyond
            rows: `"model"`, `"head"`, `"labels"`, `"truth"`, `"dictionary"`. For a task, `"values"` of its pairs or
            their `"rows"`. For a scorer or an explainer, whom it asks: `"embed"`, an encoder; what judges provide; of
            the model that is decomposed `"model"` (`Activate`) or `"head"` (`Steer`, `Unembed`); and `"atoms"` of the
            decomposition. For a scorer also `"explanation"`: it is then asked once for each explainer of the suite.
            Where needs depend on the parameters, like `identity`, but gives the tuple.
        pairs: for a task: `"module:attribute"` or a callable that says of the config and two `ComparedSite`s whether
            it asks for this pair. Called when planning: it must not import torch.
        metrics: for an evaluation, what it measures; see `harness.Metric`. Rows of other metrics are in its table too,
            and nothing is known of them.
    """

    kind: str
    name: str
    version: int
    summary: str
    factory: str | Callable[..., Any]
    config: type | None = None
    identity: str | Callable[[Any], Any] | None = None
    shape: str | Callable[[Any], Any] | None = None
    pairs: str | Callable[[Any, Any, Any], bool] | None = None
    provides: tuple[str, ...] = ()
    needs: tuple[str, ...] | str | Callable[[Any], tuple[str, ...]] = ()
    metrics: tuple[Metric, ...] = ()


def check_spec(spec: object) -> None:
    """Raise a PluginError, addressed to the plugin's author, where a spec breaks the rules."""
    if not isinstance(spec, Spec):
        raise PluginError(f"harness_specs() returned {spec!r}, which is not a harness.Spec. Return a list of Specs.")
    where = f"Spec {spec.kind}/{spec.name}"
    if spec.kind not in KINDS:
        raise PluginError(f"{where}: unknown kind {spec.kind!r}.{suggest(str(spec.kind), KINDS)}")
    if not isinstance(spec.name, str) or not _NAME.fullmatch(spec.name):
        raise PluginError(
            f"{where}: bad name {spec.name!r}. A name starts with a lower case letter and holds only "
            "lower case letters, digits and '_'."
        )
    if not isinstance(spec.version, int) or isinstance(spec.version, bool) or spec.version < 1:
        raise PluginError(f"{where}: version is {spec.version!r}; give a whole number from 1 on.")
    if spec.config is not None and not (isinstance(spec.config, type) and dataclasses.is_dataclass(spec.config)):
        raise PluginError(f"{where}: config is {spec.config!r}; give a dataclass (the class, not an instance) or None.")
    if spec.config is not None:
        _check_annotations(spec.config, where)
    if not callable(spec.factory) and not _is_reference(spec.factory):
        raise PluginError(f"{where}: factory is {spec.factory!r}; give 'module:attribute' or a callable.")
    for name in ("identity", "shape", "pairs"):
        value = getattr(spec, name)
        if value is not None and not callable(value) and not _is_reference(value):
            raise PluginError(f"{where}: {name} is {value!r}; give 'module:attribute' or a callable.")
    if spec.kind == "task" and spec.pairs is None:
        raise PluginError(f"{where}: pairs is missing; name a function of the config and two sites of a suite.")
    check_metrics(spec.metrics, where)
    if not isinstance(spec.needs, tuple) and not callable(spec.needs) and not _is_reference(spec.needs):
        raise PluginError(f"{where}: needs is {spec.needs!r}; give a tuple, 'module:attribute' or a callable.")


def _check_annotations(config: type, where: str) -> None:
    try:
        field_types(config)
    except Exception as error:  # annotations are the plugin's own code
        raise PluginError(
            f"{where}: the annotations of {config.__name__} can't be evaluated: {type(error).__name__}: {error}. "
            "Import what they name outside `if TYPE_CHECKING`."
        ) from error


def _is_reference(value: object) -> bool:
    return isinstance(value, str) and re.fullmatch(r"[\w.]+:\w+", value) is not None
