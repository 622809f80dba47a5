"""A suite expanded into cells: captures, fits, evaluations of the fits, their latents and scores, and comparisons.

Pure: no file is read or written here, and torch is not needed. Where a cell stands is the store's to say.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from harness.contracts.sites import Site, parse_site
from harness.contracts.task import ComparedSite
from harness.errors import ConfigError
from harness.planning.cells import Cell
from harness.planning.keys import canonical_json, content_key
from harness.planning.latent_cells import LatentsRead
from harness.planning.suite import Entry, ModelEntry, Suite
from harness.planning.task_cells import Judged, asks, task_cells
from harness.planning.whole_models import Part, read_together, whole_pairs

# Raised when a stage's own code changes results; the cells it made become stale.
STAGE_VERSIONS = {
    "capture": 1,
    "fit": 1,
    "evaluation": 1,
    "latents": 2,
    "explanation": 1,
    "scoring": 2,
    "similarity": 2,
    "task": 2,
}


@dataclass(frozen=True)
class Plan:
    """Cells in an order in which they can be done."""

    suite: Suite
    cells: Mapping[str, Cell]

    def of_kind(self, kind: str) -> list[Cell]:
        return [cell for cell in self.cells.values() if cell.kind == kind]


@dataclass(frozen=True)
class _Place:
    """A site of a model with the captures of its splits, that for fitting of one budget."""

    model: ModelEntry
    site: str
    fit_tokens: int
    captures: Mapping[str, Cell]

    @property
    def columns(self) -> dict[str, Any]:
        return {"family": self.model.family, "model": self.model.label, "site": self.site}

    @property
    def label(self) -> str:
        return f"{self.model.label} {self.site}"

    @cached_property
    def compared(self) -> ComparedSite:
        """What tasks see of it."""
        n_layers = self.model.shape["n_layers"] if self.model.shape else None
        layer = parse_site(self.site).layer
        return ComparedSite(self.model.family, self.model.label, self.site, layer, n_layers, self.model.control_of)

    @cached_property
    def rank(self) -> tuple[str, Site]:
        """Which side of a pair it is: by content, so that pairs don't change with the order of a suite's entries."""
        return content_key(self.model.entry.inputs), parse_site(self.site)


def build_plan(suite: Suite) -> Plan:
    """Every cell of a suite; equal cells are one."""
    planner = _Planner(suite)
    of_seeds = [metric.label for metric in suite.similarities if "dictionary" in metric.needs]
    if of_seeds and len(set(suite.config.seeds)) < 2:
        raise ConfigError(
            f"similarities: {', '.join(of_seeds)} compares fits of different seeds, and seeds is "
            f"{list(suite.config.seeds)}. Give more, such as seeds=[0,1]."
        )
    budgets = suite.config.tokens.fit_budgets
    places = [planner.place(model, site, n) for model in suite.models for site in model.sites for n in budgets]
    fits = [(place, fit) for place in places for fit in planner.fits(place)]
    for place, (method, cell) in fits:
        planner.evaluations(place, method, cell)
    # Kind by kind: with some of them done, a group of scores would else come before its latents.
    read = [planner.latents(place, method, cell) for place, (method, cell) in fits if "interp" in place.captures]
    explained = [(latents, [planner.add(**fields) for fields in latents.explanations()]) for latents in read]
    for latents, explanations in explained:
        for fields in latents.scores(explanations):
            planner.add(**fields)
    # Representations are compared on evaluation rows: the fit rows tell only which of them are masked.
    compared = [place for place in places if place.fit_tokens == budgets[-1]]
    planner.representation_pairs(compared)
    planner.decomposition_pairs(fits)
    if suite.config.whole_models:
        planner.whole_models(compared, fits)
    planner.tasks(compared)
    return Plan(suite, planner.cells)


@dataclass
class _Planner:
    suite: Suite
    cells: dict[str, Cell] = field(default_factory=dict)
    compared: dict[tuple[str, str, str], str] = field(default_factory=dict)
    """The key of a similarity cell by what tasks judge and the labels of its places."""

    def add(self, inputs: Mapping[str, Any], **fields: Any) -> Cell:
        kind = fields["kind"]
        key = content_key({"stage": kind, "stage_version": STAGE_VERSIONS[kind], **inputs})
        return self.cells.setdefault(key, Cell(key=key, **fields))

    def place(self, model: ModelEntry, site: str, fit_tokens: int) -> _Place:
        config = self.suite.config.tokens
        tokens = {"fit": fit_tokens, "evaluation": config.evaluation, "interp": config.interp}
        captures = {split: self.capture(model, site, split, n) for split, n in tokens.items() if n}
        return _Place(model, site, fit_tokens, captures)

    def note_of(self, split: str, tokens: int) -> str:
        """What tells the labels of several budgets apart."""
        is_swept = split == "fit" and len(self.suite.config.tokens.fit_budgets) > 1
        return f", {tokens:,} tokens" if is_swept else ""

    def capture(self, model: ModelEntry, site: str, split: str, tokens: int) -> Cell:
        config = self.suite.config
        corpus = None if model.has_own_rows else self.suite.corpus
        source = {
            "model": model.entry.inputs,
            "corpus": corpus and corpus.inputs,
            "split": split,
            "documents": config.share_of(split),
            "tokens": tokens,
            "context": config.context if corpus else None,
        }
        task = {
            "model": model.entry.call,
            "corpus": corpus and corpus.call,
            "max_disk_gb": config.max_disk_gb,
            **{key: source[key] for key in ("split", "documents", "tokens", "context")},
        }
        layer = parse_site(site).layer
        n_layers = model.shape["n_layers"] if model.shape else None
        too_deep = f"{model.label} has {n_layers} blocks, 0 to {n_layers - 1}" if n_layers else None
        return self.add(
            {**source, "site": site},
            kind="capture",
            label=f"capture {model.label} {site} ({split}{self.note_of(split, tokens)})",
            group=content_key({"pass": source}),
            task={**task, "site": site},
            columns={
                **{"family": model.family, "model": model.label, "site": site, "split": split},
                "fit_tokens": tokens if split == "fit" else None,
                "plugin_version": model.entry.version,
            },
            skipped=too_deep if n_layers is not None and layer >= n_layers else None,
        )

    def fits(self, place: _Place) -> Iterator[tuple[Entry, Cell]]:
        config = self.suite.config
        capture = place.captures["fit"]
        for method, seed in itertools.product(self.suite.methods, config.seeds):
            rows = {"capture": capture.key, "max_norm_multiple": config.max_norm_multiple}
            cell = self.add(
                {"method": method.inputs, **rows, "seed": seed, "dtype": "float32"},
                kind="fit",
                label=f"fit {method.label} on {place.label}{self.note_of('fit', place.fit_tokens)}, seed {seed}",
                group=content_key({"fit rows": rows}),
                task={"method": method.call, **rows, "seed": seed},
                columns={**place.columns, "fit_tokens": place.fit_tokens, **_method_columns(method, seed)},
                upstream=(capture.key,),
                skipped=capture.skipped,
            )
            yield method, cell

    def evaluations(self, place: _Place, method: Entry, fit: Cell) -> None:
        rows = self.rows_of(place)
        for evaluation in self.suite.evaluations:
            self.add(
                {"evaluation": evaluation.inputs, "fit": fit.key, **rows},
                kind="evaluation",
                label=f"{evaluation.label} of {fit.label.removeprefix('fit ')}",
                group=content_key({"rows": rows}),
                task={
                    **{"evaluation": evaluation.call, "fit": fit.key, **rows},
                    "source": place.captures["evaluation"].task,
                },
                columns={**fit.columns, "evaluation": evaluation.name},
                upstream=(fit.key, rows["capture"], rows["fit_capture"]),
                skipped=fit.skipped,
            )

    def latents(self, place: _Place, method: Entry, fit: Cell) -> LatentsRead:
        rows = self.rows_of(place, "interp")
        what = {"fit": fit.key, **rows, "n_latents": self.suite.config.latents}
        source = place.captures["interp"].task
        cell = self.add(
            what,
            kind="latents",
            label=f"latents of {fit.label.removeprefix('fit ')}",
            group=content_key({"latents": rows}),
            task={
                **what,
                "seed": fit.columns["seed"],
                "source": source,
                "fit_source": place.captures["fit"].task,
            },
            columns=fit.columns,
            upstream=(fit.key, rows["capture"], rows["fit_capture"]),
            skipped=fit.skipped,
        )
        return LatentsRead(self.suite, place.model, method, source, rows, cell)

    def rows_of(self, place: _Place, split: str = "evaluation") -> dict[str, Any]:
        """The rows of a split at a place, and the fit rows whose norms decide which are masked."""
        return {
            "capture": place.captures[split].key,
            "fit_capture": place.captures["fit"].key,
            "max_norm_multiple": self.suite.config.max_norm_multiple,
        }

    def representation_pairs(self, places: list[_Place]) -> None:
        metrics = [entry for entry in self.suite.similarities if not entry.needs]
        pairs = itertools.combinations_with_replacement(sorted(places, key=lambda place: place.rank), 2)
        # Model by model: neighbours have places in common, which are read together.
        by_models = sorted(pairs, key=lambda pair: [place.rank[0] for place in pair])
        for (a, b), metric in itertools.product([pair for pair in by_models if self.is_asked(*pair)], metrics):
            sides = {"a": self.rows_of(a), "b": self.rows_of(b)}
            upstream = [side[name] for side in sides.values() for name in ("capture", "fit_capture")]
            group = read_together(a.model, b.model)
            cell = self.similarity(metric, sides, a.columns, b.columns, upstream, f"{a.label} and {b.label}", group)
            self.compared[Judged(metric).id, a.label, b.label] = cell.key

    def decomposition_pairs(self, fits: list[tuple[_Place, tuple[Entry, Cell]]]) -> None:
        """Fits of one method: at different places with one seed; where directions are compared, which only those of one
        place can be, with different seeds at one place instead; codes of shared rows are compared both ways.
        """
        metrics = [entry for entry in self.suite.similarities if entry.needs]
        fits = sorted(fits, key=lambda fit: (fit[0].rank, fit[1][1].columns["seed"]))
        for one, two in itertools.combinations_with_replacement(fits, 2):
            (place, (method, a)), (other_place, (other, b)) = one, two
            if method.inputs != other.inputs or place.fit_tokens != other_place.fit_tokens:
                continue
            is_one_seed = a.columns["seed"] == b.columns["seed"]
            kinds = {"atoms", "codes"} if is_one_seed and self.is_asked(place, other_place) else set()
            kinds |= {"dictionary", "codes"} if not is_one_seed and place is other_place else set()
            for metric in metrics:
                if kinds & set(metric.needs) and set(metric.needs) - {"codes"} <= set(method.provides):
                    self.fits_compared(metric, (place, method, a), (other_place, b))

    def fits_compared(self, metric: Entry, one: tuple[_Place, Entry, Cell], two: tuple[_Place, Cell]) -> None:
        (place, method, a), (other_place, b) = one, two
        rows = [self.rows_of(side) if "codes" in metric.needs else {} for side in (place, other_place)]
        sides = {"a": {"fit": a.key, **rows[0]}, "b": {"fit": b.key, **rows[1]}}
        upstream = [a.key, b.key, *(side[name] for side in rows for name in ("capture", "fit_capture") if side)]
        label = " and ".join(cell.label.removeprefix("fit ") for cell in (a, b))
        group = {"fits of": [place.model.entry.inputs, other_place.model.entry.inputs]}
        cell = self.similarity(metric, sides, a.columns, b.columns, upstream, label, group)
        if a.columns["seed"] == b.columns["seed"]:
            subject = Judged(metric, method, place.fit_tokens, a.columns["seed"])
            self.compared[subject.id, place.label, other_place.label] = cell.key

    def whole_models(self, places: list[_Place], fits: list[tuple[_Place, tuple[Entry, Cell]]]) -> None:
        """Pairs of models, each with all its sites as one side."""
        rows = [Part(place.rank, place.model, self.rows_of(place), place.columns) for place in places]
        of_atoms: dict[str, list[Part]] = defaultdict(list)
        for place, (method, cell) in fits:
            if "atoms" in method.provides:
                words = f"{method.label}{self.note_of('fit', place.fit_tokens)}, seed {cell.columns['seed']}"
                of_atoms[words].append(Part(place.rank, place.model, {"fit": cell.key}, cell.columns))
        for fields in whole_pairs(self.suite.similarities, rows, of_atoms):
            self.similarity(**fields)

    def is_asked(self, a: _Place, b: _Place) -> bool:
        """Whether two places are compared: all are, or what tasks ask for, which may be a place with itself."""
        if not self.suite.tasks:
            return a is not b
        return any(asks(task, a.compared, b.compared) for task in self.suite.tasks if "values" in task.needs)

    def tasks(self, places: list[_Place]) -> None:
        sites = [place.compared for place in places]
        numbers = {place.label: i for i, place in enumerate(places)}
        compared = {(subject, numbers[a], numbers[b]): key for (subject, a, b), key in self.compared.items()}
        for fields in task_cells(self.suite, sites, [self.rows_of(place) for place in places], compared):
            inputs = fields.pop("inputs")
            skipped = next((self.cells[key].skipped for key in fields["upstream"] if self.cells[key].skipped), None)
            self.add(inputs, **fields, skipped=skipped)

    def similarity(
        self,
        metric: Entry,
        sides: Mapping[str, Any],
        columns_a: Mapping[str, Any],
        columns_b: Mapping[str, Any],
        upstream: list[str],
        label: str,
        group: Mapping[str, Any],
    ) -> Cell:
        skipped = next((self.cells[key].skipped for key in upstream if self.cells[key].skipped), None)
        return self.add(
            {"similarity": metric.inputs, **sides},
            kind="similarity",
            label=f"{metric.label} of {label}",
            group=content_key(group),
            task={"similarity": metric.call, **sides},
            columns={
                **columns_a,
                **{f"{name}_b": value for name, value in columns_b.items()},
                "similarity": metric.name,
                "similarity_config": canonical_json(dict(metric.params)),
                "plugin_version": metric.version,
            },
            upstream=tuple(dict.fromkeys(upstream)),
            skipped=skipped,
        )


def _method_columns(method: Entry, seed: int) -> dict[str, Any]:
    return {
        "method": method.name,
        "method_config": canonical_json(dict(method.params)),
        "seed": seed,
        "plugin_version": method.version,
    }
