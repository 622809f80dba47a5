"""The board `scales`: whether a measure of latents changes with the size of models, as far as a suite can tell.

A family is compared across its sizes, the numbers of parameters of its models. A value is a model's mean over sites and
seeds, for one method; its slope is that of the least-squares line over ln(parameters), in the measure's units for an
e-fold larger model. The 95 % interval is Student's, with n − 2 degrees of freedom for n models: what models' means
differ by from the line is the luck of models and seeds alike. Two models have none.

Two rules say which dictionaries are compared, since a dictionary of one size is a smaller one for a wider model:

    equal m    as many latents for every model
    equal m/d  as many latents for each dimension of the model

The number of latents, m, is the parameter in `SIZES` that differs between a method's entries in the suite, or else the
one that they share. Entries that differ in anything else have lines of their own. Of several numbers of latents the one
that most models have is taken, and then the largest.

`untrained_slope` is that of the family's untrained twins (`control_of`), at the same sizes, and `difference` the slope
less it, with degrees of freedom of two variances (Welch 1947). There is a *trend* only if, under both rules alike,
there are at least 4 sizes with at least 2 models or seeds each, the slope's interval and that of the difference leave
out 0, and slopes have one sign. Otherwise it can't be told, and `reason` says why.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import scipy.stats
from jaxtyping import Float, Int

from harness.planning.entries import ModelEntry
from harness.planning.suite import Suite
from harness.tables.interpretability import SCORER, scored_units

RULES = ("equal m", "equal m/d")
MIN_SIZES, MIN_SEEDS = 4, 2
SIZES = ("n_latents", "max_atoms", "n_components")
"""The parameters of methods that say how many latents there are, the same as in `conf/estimates/costs.yaml`."""
COLUMNS = (
    *("family", "method", "method_config", "metric", "rule", "size", "slope", "slope_low", "slope_high"),
    *("untrained_slope", "difference", "difference_low", "difference_high", "n_sizes", "n_seeds", "verdict", "reason"),
)
UNTOLD = "can't be told"
_UNKNOWN = 1
"""The number of latents of a method some config of which does not say it: equal for all models, never equal m/d."""
_KEYS = ["family", "method", "rest", "metric"]


def scales(suite: Suite, values: pd.DataFrame) -> pd.DataFrame:
    """One line per family, method, metric and rule; none for families of one size.

    Args:
        suite: which knows the sizes of its models.
        values: columns `model, method, method_config, metric, seed, value`, of all sites.
    """
    models = {model.label: model for model in suite.models if model.shape and "n_parameters" in model.shape}
    known = values[values["model"].isin(models)]
    controls = {model.control_of: model.family for model in models.values() if model.control_of}
    sizes = {family: _sizes(models, family) for family in {model.family for model in models.values()}}
    table = _described(known, models)
    lines: list[dict[str, Any]] = []
    for key, own in table.groupby(_KEYS, sort=False):
        family = str(key[0])
        if len(set(sizes[family].values())) < 2 or family in controls.values():
            continue
        twins = table[(table["family"] == controls.get(family)) & _same(table, key)]
        lines += _lines(dict(zip(_KEYS, key, strict=True)), own, twins, models)
    return pd.DataFrame(lines, columns=list(COLUMNS))


def scale_values(tables: Mapping[str, pd.DataFrame], suite: Suite, floors: Collection[str]) -> pd.DataFrame:
    """The values that `scales` compares: metrics of evaluations, and scores of latents, less a floor if there is one.

    Where some units have a floor, those without are left out. Of several budgets of tokens the largest counts.
    """
    columns = ["model", "method", "method_config", "metric", "seed", "value"]
    measured = [tables[name] for name in suite.metrics if name in tables]
    units = scored_units(tables["interp"], floors)
    if len(units):
        by = [*columns[:3], "fit_tokens", "seed", *SCORER, "metric"]
        n_lifts = units.groupby([*SCORER, "metric"], dropna=False)["lift"].transform("count")
        chosen = units["lift"].where(n_lifts > 0, units["value"])  # one or the other of all models, never mixed
        units = units.assign(weighted=chosen * units["weight"], has_floor=n_lifts > 0)[chosen.notna()]
        means = units.groupby([*by, "has_floor"], dropna=False, sort=False, as_index=False)
        found = means.agg(weighted=("weighted", "sum"), weight=("weight", "sum"))
        metrics = [_score(line, suite) for line in found.to_dict("records")]
        measured.append(found.assign(value=found["weighted"] / found["weight"], metric=metrics))
    none = pd.DataFrame(columns=[*columns, "fit_tokens"])
    values = pd.concat([table[none.columns] for table in measured] or [none], ignore_index=True)
    is_largest = values["fit_tokens"] == max(suite.config.tokens.fit_budgets)
    is_end = values["metric"].str.endswith(("_low", "_high")).fillna(False).astype(bool)
    wanted = is_largest & ~is_end & values["value"].notna() & values["method"].notna()
    kept: pd.DataFrame = values.loc[wanted, columns]
    return kept


def _score(line: Mapping[Any, Any], suite: Suite) -> str:
    """The name of a scorer's metric, with those whom it asked."""
    name = f"{suite.label('scorer', line)} {line['metric']}" + (" less floor" if line["has_floor"] else "")
    asked = [f"{how} {line[by]}" for by, how in (("judge", "by"), ("explainer", "explained by")) if pd.notna(line[by])]
    return ", ".join([name, *asked])


def _sizes(models: Mapping[str, ModelEntry], family: str) -> dict[str, int]:
    return {label: _shape(model)["n_parameters"] for label, model in models.items() if model.family == family}


def _shape(model: ModelEntry) -> Mapping[str, int]:
    assert model.shape is not None  # others are left out
    return model.shape


def _same(table: pd.DataFrame, key: Any) -> pd.Series[bool]:
    found = pd.Series(True, index=table.index)
    for name, value in zip(_KEYS[1:], key[1:], strict=True):
        found &= table[name] == value
    return found


def _described(values: pd.DataFrame, models: Mapping[str, ModelEntry]) -> pd.DataFrame:
    """The means over sites, with the size of each dictionary (`m`) and the rest of its method's config (`rest`)."""
    keys = ["model", "method", "method_config", "metric", "seed"]
    table: pd.DataFrame = values.groupby(keys, sort=False)["value"].mean().reset_index()
    configs = {config: json.loads(config) for config in table["method_config"].unique()}
    size_key = {
        method: _size_key([configs[config] for config in own["method_config"].unique()])
        for method, own in table.groupby("method", sort=False)
    }
    split = [
        _split(configs[config], size_key[method])
        for method, config in zip(table["method"], table["method_config"], strict=True)
    ]
    described: pd.DataFrame = table.assign(
        family=[models[model].family for model in table["model"]],
        width=[_shape(models[model])["width"] for model in table["model"]],
        rest=[rest for rest, _ in split],
        m=[m for _, m in split],
    )
    return described


def _size_key(configs: list[dict[str, Any]]) -> str | None:
    """The parameter that says how many latents there are; None where some config leaves it open."""
    keys = [key for key in SIZES if all(type(config.get(key)) is int for config in configs)]
    return max(keys, key=lambda key: len({config[key] for config in configs}) > 1, default=None)


def _split(config: Mapping[str, Any], size_key: str | None) -> tuple[str, int]:
    rest = {key: value for key, value in config.items() if key != size_key}
    return json.dumps(rest, sort_keys=True), _UNKNOWN if size_key is None else int(config[size_key])


@dataclass(frozen=True)
class _Cells:
    """The values of some models, all with dictionaries of one rule, by model and seed."""

    sizes: Int[np.ndarray, " models"]
    values: list[Float[np.ndarray, " seeds"]]

    @classmethod
    def of(cls, table: pd.DataFrame, models: Mapping[str, ModelEntry]) -> _Cells:
        found = [(label, own["value"].to_numpy(float)) for label, own in table.groupby("model", sort=True)]
        return cls(
            np.array([_shape(models[str(label)])["n_parameters"] for label, _ in found], int), [v for _, v in found]
        )

    @property
    def n_by_size(self) -> Counter[int]:
        """The number of models and seeds at each size."""
        return Counter(size for size, own in zip(self.sizes.tolist(), self.values, strict=True) for _ in own)

    def slope(self) -> _Slope:
        fit = scipy.stats.linregress(np.log(self.sizes), [own.mean() for own in self.values])
        return _Slope(float(fit.slope), float(fit.stderr) ** 2, len(self.values) - 2)


@dataclass(frozen=True)
class _Slope:
    """A slope, or the difference of two."""

    value: float
    variance: float
    """The square of the value's standard error; without a meaning where no degree of freedom is left."""
    n_free: float
    """Degrees of freedom of the variance."""

    def less(self, other: _Slope) -> _Slope:
        variance = self.variance + other.variance
        n_free = float(min(self.n_free, other.n_free))
        if variance and n_free:
            n_free = variance**2 / (self.variance**2 / self.n_free + other.variance**2 / other.n_free)
        return _Slope(self.value - other.value, variance, n_free)

    def interval(self) -> tuple[float, float] | None:
        """The 95 % interval."""
        if not self.n_free:
            return None
        half = float(scipy.stats.t.ppf(0.975, self.n_free)) * self.variance**0.5
        return self.value - half, self.value + half


@dataclass
class _Line:
    """The slope by one rule, and why it tells nothing, where it does not."""

    rule: str
    columns: dict[str, Any] = field(default_factory=dict)
    reasons: list[str] = field(default_factory=list)

    @property
    def sign(self) -> float:
        return float(np.sign(self.columns.get("slope") or 0.0))


def _lines(
    key: Mapping[str, Any], own: pd.DataFrame, twins: pd.DataFrame, models: Mapping[str, ModelEntry]
) -> Iterator[dict[str, Any]]:
    lines = [_line(rule, own, twins, models) for rule in RULES]
    reasons = [f"{line.rule}: {reason}" for line in lines for reason in line.reasons]
    if not reasons and lines[0].sign != lines[1].sign:
        reasons = ["the two rules disagree about the sign"]
    verdict = UNTOLD if reasons else f"trend, {'up' if lines[0].sign > 0 else 'down'}"
    for line in lines:
        about = {
            "family": key["family"],
            "method": key["method"],
            "method_config": key["rest"],
            "metric": key["metric"],
        }
        yield {**about, "rule": line.rule, **line.columns, "verdict": verdict, "reason": "; ".join(reasons) or None}


def _line(rule: str, own: pd.DataFrame, twins: pd.DataFrame, models: Mapping[str, ModelEntry]) -> _Line:
    line, shared = _Line(rule), _by_rule(own, rule)
    size = _most_shared(own.assign(shared=shared), models)
    line.columns["size"] = None if (own["m"] == _UNKNOWN).all() else size
    cells = _Cells.of(own[shared == size], models)
    counts = cells.n_by_size
    line.columns |= {"n_sizes": len(counts), "n_seeds": min(counts.values())}
    if len(counts) < MIN_SIZES:
        line.reasons.append(f"{len(counts)} sizes, of {MIN_SIZES}")
    if min(counts.values()) < MIN_SEEDS:
        line.reasons.append(f"one model and seed at some size, of {MIN_SEEDS}")
    if len(counts) > 1:
        _measure(line, cells, _Cells.of(twins[_by_rule(twins, rule) == size], models))
    return line


def _by_rule(table: pd.DataFrame, rule: str) -> pd.Series[float]:
    """The number that the dictionaries of one comparison have in common."""
    return table["m"].astype(float) if rule == RULES[0] else (table["m"] / table["width"]).round(9)


def _most_shared(table: pd.DataFrame, models: Mapping[str, ModelEntry]) -> float:
    """The number that dictionaries of most sizes have, and of several the largest."""
    reach: dict[Any, int] = {
        shared: len({_shape(models[model])["n_parameters"] for model in own["model"]})
        for shared, own in table.groupby("shared")
    }
    return float(max(reach, key=lambda shared: (reach[shared], shared)))


def _measure(line: _Line, cells: _Cells, twins: _Cells) -> None:
    """Fill in slopes and intervals."""
    slope = cells.slope()
    _tell(line, "slope", slope)
    sizes = set(cells.sizes.tolist())
    if missing := sizes - set(twins.sizes.tolist()):
        line.reasons.append(f"no untrained twin at {len(missing)} of {len(sizes)} sizes")
        return
    at = [place for place, size in enumerate(twins.sizes.tolist()) if size in sizes]
    untrained = _Cells(twins.sizes[at], [twins.values[place] for place in at]).slope()
    line.columns["untrained_slope"] = untrained.value
    _tell(line, "difference", slope.less(untrained))


def _tell(line: _Line, name: str, slope: _Slope) -> None:
    line.columns[name] = slope.value
    ends = slope.interval()
    if ends is not None:
        line.columns |= {f"{name}_low": ends[0], f"{name}_high": ends[1]}
    if ends is None or ends[0] <= 0 <= ends[1]:
        what = "its slope" if name == "slope" else "what training adds to the slope"
        line.reasons.append(f"{what} may be 0")
