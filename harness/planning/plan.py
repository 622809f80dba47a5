"""A suite expanded into cells: captures, fits, evaluations of the fits, their latents and scores, and comparisons.

Pure: no file is read or written here, and torch is not needed. Which cells are done is for the store to say.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from harness.errors import ConfigError
from harness.planning.cells import Cell
from harness.planning.circuit_cells import circuit_cells, contrast_cells
from harness.planning.entries import Entry, ModelEntry
from harness.planning.files_called import with_plugin_files
from harness.planning.fits import CapturedSite, Fit, fit_group, unstored
from harness.planning.keys import canonical_json, content_key
from harness.planning.latent_cells import LatentsRead
from harness.planning.suite import Suite
from harness.planning.task_cells import Contender, asks, task_cells
from harness.planning.whole_models import Part, read_together, whole_pairs

# Raised when a stage's own code changes results; the cells it made become stale.
STAGE_VERSIONS = {
    **{"capture": 1, "fit": 1, "evaluation": 1, "latents": 3, "explanation": 1, "scoring": 2},
    **{"similarity": 2, "task": 2, "contrast": 1, "circuit": 2},
}


@dataclass(frozen=True)
class Plan:
    """Cells in an order in which they can be done."""

    suite: Suite
    cells: Mapping[str, Cell]

    def of_kind(self, kind: str) -> list[Cell]:
        return self._by_kind[kind]

    def of_latents(self, kind: str, latents: str) -> list[Cell]:
        """The cells of a kind that are about the latents which a cell has read."""
        return self._by_latents[kind, latents]

    @cached_property
    def _by_kind(self) -> Mapping[str, list[Cell]]:
        found: dict[str, list[Cell]] = defaultdict(list)
        for cell in self.cells.values():
            found[cell.kind].append(cell)
        return found

    @cached_property
    def _by_latents(self) -> Mapping[tuple[str, str], list[Cell]]:
        found: dict[tuple[str, str], list[Cell]] = defaultdict(list)
        for cell in self.cells.values():
            if "latents" in cell.work:
                found[cell.kind, cell.work["latents"]].append(cell)
        return found


def build_plan(suite: Suite) -> Plan:
    """Expand a suite into its cells; equal cells are one."""
    planner = _Planner(suite)
    of_seeds = [metric.label for metric in suite.similarities if "dictionary" in metric.needs]
    if of_seeds and len(set(suite.config.seeds)) < 2:
        raise ConfigError(
            f"similarities: {', '.join(of_seeds)} compares fits of different seeds, and seeds is "
            f"{list(suite.config.seeds)}. Give more, such as seeds=[0,1]."
        )
    budgets, draws = suite.config.tokens.fit_budgets, planner.draws
    sites = [
        planner.captured(model, site, n, draw)
        for model in suite.models
        for site, n, draw in itertools.product(model.sites, budgets, draws)
    ]
    fits = [fit for site in sites for fit in planner.fits(site)]
    for fit in fits:
        planner.evaluations(fit)
    # Kind by kind: with some of them done, a group of scores would else come before its latents.
    read = [planner.latents(fit) for fit in fits if "interp" in fit.site.captures]
    explained = [(latents, [planner.add(**fields) for fields in latents.explanations()]) for latents in read]
    for latents, explanations in explained:
        for fields in latents.scores(explanations):
            planner.add(**fields)
    # Representations are compared on evaluation rows: the fit rows tell only which of them are masked.
    compared = [site for site in sites if (site.fit_tokens, site.draw) == (budgets[-1], draws[0])]
    planner.representation_pairs(compared)
    planner.decomposition_pairs(fits)
    if suite.config.whole_models:
        planner.whole_models(compared, fits)
    planner.tasks(compared)
    contrasts = [planner.add(**fields) for fields in contrast_cells(suite)]
    for fields in circuit_cells(contrasts, fits):
        planner.add(**fields)
    return Plan(suite, with_plugin_files(planner.cells, suite))


@dataclass
class _Planner:
    suite: Suite
    cells: dict[str, Cell] = field(default_factory=dict)
    comparisons: dict[tuple[str, str, str], str] = field(default_factory=dict)
    """The key of a similarity cell that tasks may read, by the id of its contender and the labels of its two sites."""

    def add(self, inputs: Mapping[str, Any], **fields: Any) -> Cell:
        """The cell whose key follows from `inputs`: a new one, or the equal one that is there already."""
        kind = fields["kind"]
        key = content_key({"stage": kind, "stage_version": STAGE_VERSIONS[kind], **inputs})
        return self.cells.setdefault(key, Cell(key=key, **fields))

    def skipped_upstream(self, upstream: Iterable[str]) -> str | None:
        """The reason why a cell can't be done because one that it rests on can't."""
        return next((self.cells[key].skipped for key in upstream if self.cells[key].skipped), None)

    @property
    def draws(self) -> list[int | None]:
        """The seeds that draw documents for fitting, the smallest first; None alone where these are no seed's own."""
        config = self.suite.config
        return [*sorted(set(config.seeds))] if config.seeds_vary == "documents" else [None]

    def captured(self, model: ModelEntry, site: str, fit_tokens: int, draw: int | None) -> CapturedSite:
        """A site with the captures of all splits that the suite uses."""
        config = self.suite.config.tokens
        tokens = {"evaluation": config.evaluation, "interp": config.interp}
        captures = {"fit": self.capture(model, site, "fit", fit_tokens, draw)}
        captures |= {split: self.capture(model, site, split, n) for split, n in tokens.items() if n}
        return CapturedSite(model, site, fit_tokens, captures, self.suite.config.max_norm_multiple, draw)

    def budget_note(self, fit_tokens: int) -> str:
        """The budget as part of a label, where the suite has several."""
        return f", {fit_tokens:,} tokens" if len(self.suite.config.tokens.fit_budgets) > 1 else ""

    def capture(self, model: ModelEntry, site: str, split: str, tokens: int, draw: int | None = None) -> Cell:
        config = self.suite.config
        corpus = None if model.has_own_rows else self.suite.corpus
        source = {
            "model": model.entry.inputs,
            "corpus": corpus and corpus.inputs,
            "split": split,
            "documents": config.share_of(split),
            "tokens": tokens,
            "context": config.context if corpus else None,
            **({} if draw is None else {"draw": draw}),
        }
        models = {"model": model.entry.call, "corpus": corpus and corpus.call}
        work = {**source, **models, "max_disk_gb": config.max_disk_gb, **unstored(config, split, corpus)}
        of_fit = self.budget_note(tokens) if split == "fit" else ""
        of_fit += "" if draw is None else f", seed {draw}"
        return self.add(
            {**source, "site": site},
            kind="capture",
            label=f"capture {model.label} {site} ({split}{of_fit})",
            group=content_key({"pass": source}),
            work={**work, "site": site},
            columns={
                **{"family": model.family, "model": model.label, "site": site, "split": split},
                "fit_tokens": tokens if split == "fit" else None,
                "seed": draw,
                "plugin_version": model.entry.version,
            },
            skipped=model.lacks(site),
        )

    def fits(self, site: CapturedSite) -> list[Fit]:
        """The fits of every method with every seed at a site."""
        seeds = self.suite.config.seeds if site.draw is None else [site.draw]
        found: dict[tuple[str, int], Fit] = {}
        for method, seed in itertools.product(self.suite.methods, seeds):
            base = found[str(method.base.inputs), seed] if method.base else None
            found[str(method.inputs), seed] = self.fit(site, method, seed, base)
        return list(found.values())

    def fit(self, site: CapturedSite, method: Entry, seed: int, base: Fit | None) -> Fit:
        capture = site.captures["fit"]
        rows = {"capture": capture.key, "max_norm_multiple": site.max_norm_multiple}
        if (within := self.suite.config.shuffle_characters) is not None:
            rows |= {"shuffle_characters": within}
        name = f"{method.label} on {site.label}{self.budget_note(site.fit_tokens)}, seed {seed}"
        learnt_from = base.as_base if base else {}
        upstream = (capture.key, *learnt_from.values())
        cell = self.add(
            {"method": method.inputs, **rows, "seed": seed, "dtype": "float32", **learnt_from},
            kind="fit",
            label=f"fit {name}",
            name=name,
            group=fit_group(site, rows, base),
            work={"method": method.call, **rows, "seed": seed, **learnt_from, **site.read_again},
            columns={
                **site.columns,
                "fit_tokens": site.fit_tokens,
                **{"method": method.name, "method_config": canonical_json(dict(method.params))},
                **{"trained_at": method.origin.words if method.origin else None, "seed": seed},
                "plugin_version": method.version,
            },
            upstream=upstream,
            skipped=self.skipped_upstream(upstream) or site.refuses(method),
        )
        return Fit(site, method, cell)

    def evaluations(self, fit: Fit) -> None:
        rows = fit.site.rows()
        for evaluation in self.suite.evaluations:
            self.add(
                {"evaluation": evaluation.inputs, "fit": fit.cell.key, **rows},
                kind="evaluation",
                label=f"{evaluation.label} of {fit.name}",
                group=content_key({"rows": rows}),
                work={
                    **{"evaluation": evaluation.call, "fit": fit.cell.key, **rows},
                    "source": fit.site.captures["evaluation"].work,
                },
                columns={**fit.cell.columns, "evaluation": evaluation.name},
                upstream=(fit.cell.key, rows["capture"], rows["fit_capture"]),
                skipped=fit.cell.skipped,
            )

    def latents(self, fit: Fit) -> LatentsRead:
        rows = fit.site.rows("interp")
        inputs = {"fit": fit.cell.key, **rows, "n_latents": self.suite.config.latents}
        source = fit.site.captures["interp"].work
        cell = self.add(
            inputs,
            kind="latents",
            label=f"latents of {fit.name}",
            name=fit.name,
            group=content_key({"latents": rows}),
            work={**inputs, "seed": fit.seed, "source": source, "fit_source": fit.site.captures["fit"].work},
            columns=fit.cell.columns,
            upstream=(fit.cell.key, rows["capture"], rows["fit_capture"]),
            skipped=fit.cell.skipped,
        )
        return LatentsRead(self.suite, fit.site.model, fit.method, source, rows, cell)

    def representation_pairs(self, sites: list[CapturedSite]) -> None:
        """Similarities of the rows at two sites."""
        metrics = [entry for entry in self.suite.similarities if not entry.needs]
        pairs = itertools.combinations_with_replacement(sorted(sites, key=lambda site: site.rank), 2)
        # Model by model: neighbours have sites in common, which are read together.
        by_models = sorted(pairs, key=lambda pair: [site.rank[0] for site in pair])
        contenders = {metric.label: Contender(metric).id for metric in metrics}
        for (a, b), metric in itertools.product([pair for pair in by_models if self.is_asked(*pair)], metrics):
            sides = {"a": a.rows(), "b": b.rows()}
            upstream = [side[name] for side in sides.values() for name in ("capture", "fit_capture")]
            group = read_together(a.model, b.model)
            cell = self.similarity(metric, sides, a.columns, b.columns, upstream, f"{a.label} and {b.label}", group)
            self.comparisons[contenders[metric.label], a.label, b.label] = cell.key

    def decomposition_pairs(self, fits: list[Fit]) -> None:
        """Similarities of two fits of one method.

        Atoms are compared between sites, at one seed; directions at one site, as only there they share a space, between
        seeds; codes of shared rows both ways.
        """
        metrics = [entry for entry in self.suite.similarities if entry.needs]
        able = {
            method.label: [metric for metric in metrics if set(metric.needs) - {"codes"} <= set(method.provides)]
            for method in self.suite.methods
        }
        fits = sorted((fit for fit in fits if able[fit.method.label]), key=lambda fit: (fit.site.rank, fit.seed))
        # Only fits of equal settings meet: of thousands of fits, most pairs are of two methods.
        alike: dict[str, list[Fit]] = defaultdict(list)
        for fit in reversed(fits):
            alike[fit.settings].append(fit)
        for a in fits:
            for b in reversed(alike[a.settings]):
                kinds = self.compared_by(a, b)
                for metric in able[a.method.label] if kinds else ():
                    if kinds & set(metric.needs):
                        self.fits_compared(metric, a, b)
            alike[a.settings].pop()

    def compared_by(self, a: Fit, b: Fit) -> set[str]:
        """The needs of similarities that say something about two fits of one method."""
        if a.seed == b.seed:
            return {"atoms", "codes"} if self.is_asked(a.site, b.site) else set()
        return {"dictionary", "codes"} if a.site.label == b.site.label else set()

    def fits_compared(self, metric: Entry, a: Fit, b: Fit) -> None:
        rows = [fit.site.rows() if "codes" in metric.needs else {} for fit in (a, b)]
        sides = {"a": {"fit": a.cell.key, **rows[0]}, "b": {"fit": b.cell.key, **rows[1]}}
        captures = [side[name] for side in rows for name in ("capture", "fit_capture") if side]
        upstream = [a.cell.key, b.cell.key, *captures]
        group = {"fits of": [fit.site.model.entry.inputs for fit in (a, b)]}
        label = f"{a.name} and {b.name}"
        cell = self.similarity(metric, sides, a.cell.columns, b.cell.columns, upstream, label, group)
        if a.seed == b.seed and self.suite.tasks:
            contender = Contender(metric, a.method, a.site.fit_tokens, a.seed)
            self.comparisons[contender.id, a.site.label, b.site.label] = cell.key

    def whole_models(self, sites: list[CapturedSite], fits: list[Fit]) -> None:
        """Pairs of models, each with all its sites as one side."""
        rows = [Part(site.rank, site.model, site.rows(), site.columns) for site in sites]
        of_atoms: dict[str, list[Part]] = defaultdict(list)
        for fit in fits:
            if "atoms" in fit.method.provides:
                words = f"{fit.method.label}{self.budget_note(fit.site.fit_tokens)}, seed {fit.seed}"
                part = Part(fit.site.rank, fit.site.model, {"fit": fit.cell.key}, fit.cell.columns)
                of_atoms[words].append(part)
        for fields in whole_pairs(self.suite.similarities, rows, of_atoms):
            self.similarity(**fields)

    def is_asked(self, a: CapturedSite, b: CapturedSite) -> bool:
        """True if two sites are compared.

        Without tasks all different ones are; with tasks, those that a task asks for, which may be a site with itself.
        """
        if not self.suite.tasks:
            return a is not b
        return any(asks(task, a.for_tasks, b.for_tasks) for task in self.suite.tasks if "values" in task.needs)

    def tasks(self, sites: list[CapturedSite]) -> None:
        numbers = {site.label: i for i, site in enumerate(sites)}
        comparisons = {(contender, numbers[a], numbers[b]): key for (contender, a, b), key in self.comparisons.items()}
        asked = [site.for_tasks for site in sites]
        for work in task_cells(self.suite, asked, [site.rows() for site in sites], comparisons):
            self.add(**work.fields(), skipped=self.skipped_upstream(work.upstream))

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
        n_permutations = 0 if metric.needs else self.suite.config.permutations
        asked = {"permutations": n_permutations} if n_permutations else {}
        return self.add(
            {"similarity": metric.inputs, **sides, **asked},
            kind="similarity",
            label=f"{metric.label} of {label}",
            group=content_key(group),
            work={"similarity": metric.call, **sides, **asked},
            columns={
                **columns_a,
                **{f"{name}_b": value for name, value in columns_b.items()},
                "similarity": metric.name,
                "similarity_config": canonical_json(dict(metric.params)),
                "plugin_version": metric.version,
            },
            upstream=tuple(dict.fromkeys(upstream)),
            skipped=self.skipped_upstream(upstream),
        )
