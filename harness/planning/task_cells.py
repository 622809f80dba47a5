"""The cells of tasks: every task put to every contender, on the pairs of sites that the task asks for.

A contender is a similarity that tasks rank.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from harness.contracts.task import ComparedSite
from harness.errors import ConfigError, PluginError, said
from harness.planning.entries import Entry
from harness.planning.keys import canonical_json, content_key
from harness.planning.suite import Suite


@dataclass(frozen=True)
class Contender:
    """A similarity that tasks rank; one of decompositions, together with the method whose fits it compares."""

    similarity: Entry
    method: Entry | None = None
    fit_tokens: int | None = None
    seed: int | None = None

    @cached_property
    def id(self) -> str:
        """The content address of the contender."""
        return content_key({"similarity": self.similarity.inputs, **self.of_fits})

    @property
    def of_fits(self) -> dict[str, Any]:
        """The inputs that say which fits it compares; empty for a similarity of representations."""
        if self.method is None:
            return {}
        return {"method": self.method.inputs, "fit_tokens": self.fit_tokens, "seed": self.seed}

    @property
    def label(self) -> str:
        budget = f", {self.fit_tokens:,} tokens" if self.fit_tokens else ""
        return self.similarity.label + (f" of {self.method.label}{budget}, seed {self.seed}" if self.method else "")

    @property
    def columns(self) -> dict[str, Any]:
        """The columns that name it in tables."""
        columns: dict[str, Any] = {
            "similarity": self.similarity.name,
            "similarity_config": canonical_json(dict(self.similarity.params)),
        }
        if self.method:
            columns |= {"method": self.method.name, "method_config": canonical_json(dict(self.method.params))}
            columns |= {"fit_tokens": self.fit_tokens, "seed": self.seed}
        return columns


def contenders(suite: Suite, with_budgets: bool) -> Iterator[Contender]:
    """All contenders of a suite.

    Args:
        suite: the suite.
        with_budgets: one contender for each budget of tokens that methods learn from; otherwise one for all budgets,
            as for a task that lets methods learn from rows of its own.
    """
    for similarity in suite.similarities:
        if not similarity.needs:
            yield Contender(similarity)
        if not {"atoms", "codes"} & set(similarity.needs):
            continue
        for method in suite.methods:
            if set(similarity.needs) - {"codes"} <= set(method.provides):
                for seed in suite.config.seeds:
                    for fit_tokens in suite.config.tokens.fit_budgets if with_budgets else [None]:
                        yield Contender(similarity, method, fit_tokens, seed)


def asks(task: Entry, a: ComparedSite, b: ComparedSite) -> bool:
    """True if a task asks for a pair, in either order."""
    assert task.pairs is not None  # no task is registered without
    try:
        return bool(task.pairs(a, b) or task.pairs(b, a))
    except ConfigError:
        raise
    except (Exception, SystemExit) as error:  # the plugin's own code, which may call sys.exit
        raise PluginError(
            f"task {task.name}: pairs({a.model} {a.site}, {b.model} {b.site}) raised {said(error)}"
        ) from error


@dataclass(frozen=True)
class TaskWork:
    """One task put to one contender."""

    task: Entry
    contender: Contender
    given: Mapping[str, Any]
    """The sites, and for each pair of their numbers i, j the values or the rows that the task is given.

    Values are `cells`: [i, j, key of a similarity cell], and `calibrated` where calibrated scores are read. Rows are
    `rows`: [i, j], and `of`: the captures of site i.
    """

    @property
    def upstream(self) -> tuple[str, ...]:
        """The keys of the similarity cells whose values it reads, or of the captures whose rows."""
        values = [key for _, _, key in self.given.get("cells", ())]
        captures = [rows[name] for rows in self.given.get("of", {}).values() for name in ("capture", "fit_capture")]
        return tuple(dict.fromkeys([*values, *captures]))

    def fields(self) -> dict[str, Any]:
        """The fields of its cell, and `inputs`, from which the key is made."""
        task, similarity, method = self.task, self.contender.similarity, self.contender.method
        return {
            "inputs": {"task": task.inputs, "similarity": similarity.inputs, **self.contender.of_fits, **self.given},
            "kind": "task",
            "label": f"{task.label} by {self.contender.label}",
            "group": content_key({"task": task.inputs, "contender": self.contender.id}),
            "work": {
                **self.given,
                "task": task.call,
                "similarity": similarity.call,
                "method": method and method.call,
                "seed": self.contender.seed,
                "of_codes": "codes" in similarity.needs,
            },
            "columns": {
                **self.contender.columns,
                "task": task.name,
                "task_config": canonical_json(dict(task.params)),
                "plugin_version": task.version,
            },
            "upstream": self.upstream,
        }


def task_cells(
    suite: Suite,
    sites: Sequence[ComparedSite],
    rows: Sequence[Mapping[str, Any]],
    comparisons: Mapping[tuple[str, int, int], str],
) -> Iterator[TaskWork]:
    """The work of every task on every contender.

    Args:
        suite: the suite.
        sites: all sites that are compared.
        rows: the captures of each site, and the multiple of the median norm above which rows are masked.
        comparisons: the key of a similarity cell, by the id of its contender and the numbers of its two sites.
    """
    if suite.tasks and not any(contenders(suite, with_budgets=True)):
        raise ConfigError(
            "tasks: none of the similarities compares sites here. Name one of representations, such as cka, or with "
            "jaccard a method whose decompositions have atoms, such as itda."
        )
    for task in suite.tasks:
        pairs = _pairs(task, sites)
        takes_values = "values" in task.needs
        for contender in contenders(suite, with_budgets=takes_values):
            given = _values(contender, pairs, comparisons) if takes_values else _rows(pairs, rows)
            if takes_values and suite.config.calibrated and not contender.similarity.needs:
                given["calibrated"] = True
            yield TaskWork(task, contender, {"sites": [asdict(site) for site in sites], **given})


def _pairs(task: Entry, sites: Sequence[ComparedSite]) -> list[tuple[int, int]]:
    """The numbers of the sites of every pair that a task asks for; none at all is a ConfigError."""
    pairs = [(i, j) for i, a in enumerate(sites) for j, b in enumerate(sites[: i + 1]) if asks(task, a, b)]
    if not pairs:
        raise ConfigError(
            f"tasks: {task.label} asks for no pair of this suite's sites. Look at the families of its models: "
            f"{', '.join(dict.fromkeys(site.family for site in sites))}."
        )
    return pairs


def _values(
    contender: Contender, pairs: Sequence[tuple[int, int]], comparisons: Mapping[tuple[str, int, int], str]
) -> dict[str, Any]:
    """The similarity cells of the pairs, each in the order in which its cell compares the two sites."""
    ordered = [(i, j) if (contender.id, i, j) in comparisons else (j, i) for i, j in pairs]
    return {"cells": [[i, j, comparisons[contender.id, i, j]] for i, j in ordered]}


def _rows(pairs: Sequence[tuple[int, int]], rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The pairs, and the captures of every site in them."""
    numbers = sorted({i for pair in pairs for i in pair})
    return {"rows": [[i, j] for i, j in pairs], "of": {str(i): dict(rows[i]) for i in numbers}}
