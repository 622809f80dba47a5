"""Which pairs of sites the tasks of a suite ask for, and what each task cell needs of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from harness.contracts.task import ComparedSite
from harness.errors import ConfigError, PluginError
from harness.planning.keys import canonical_json, content_key
from harness.planning.suite import Entry, Suite


@dataclass(frozen=True)
class Judged:
    """A similarity as tasks judge it; one of decompositions with the method whose fits it compares."""

    similarity: Entry
    method: Entry | None = None
    fit_tokens: int | None = None
    seed: int | None = None

    @cached_property
    def id(self) -> str:
        return content_key({"similarity": self.similarity.inputs, **self.of_fits})

    @property
    def of_fits(self) -> dict[str, Any]:
        """Empty for a similarity of representations."""
        if self.method is None:
            return {}
        return {"method": self.method.inputs, "fit_tokens": self.fit_tokens, "seed": self.seed}

    @property
    def label(self) -> str:
        budget = f", {self.fit_tokens:,} tokens" if self.fit_tokens else ""
        return self.similarity.label + (f" of {self.method.label}{budget}, seed {self.seed}" if self.method else "")

    @property
    def columns(self) -> dict[str, Any]:
        """What names it in tables."""
        columns: dict[str, Any] = {
            "similarity": self.similarity.name,
            "similarity_config": canonical_json(dict(self.similarity.params)),
        }
        if self.method:
            columns |= {"method": self.method.name, "method_config": canonical_json(dict(self.method.params))}
            columns |= {"fit_tokens": self.fit_tokens, "seed": self.seed}
        return columns


def judged(suite: Suite, with_budgets: bool) -> Iterator[Judged]:
    """Every similarity that compares sites; without budgets, as it compares fits of rows that a task gives."""
    for similarity in suite.similarities:
        if not similarity.needs:
            yield Judged(similarity)
        if not {"atoms", "codes"} & set(similarity.needs):
            continue
        for method in suite.methods:
            if set(similarity.needs) - {"codes"} <= set(method.provides):
                for seed in suite.config.seeds:
                    for fit_tokens in suite.config.tokens.fit_budgets if with_budgets else [None]:
                        yield Judged(similarity, method, fit_tokens, seed)


def asks(task: Entry, a: ComparedSite, b: ComparedSite) -> bool:
    """Whether a task asks for a pair, in either order."""
    assert task.pairs is not None  # no task is registered without
    try:
        return bool(task.pairs(a, b) or task.pairs(b, a))
    except ConfigError:
        raise
    except Exception as error:  # the plugin's own code
        raise PluginError(
            f"task {task.name}: pairs({a.model} {a.site}, {b.model} {b.site}) raised {type(error).__name__}: {error}"
        ) from error


def task_cells(
    suite: Suite,
    sites: Sequence[ComparedSite],
    rows: Sequence[Mapping[str, Any]],
    compared: Mapping[tuple[str, int, int], str],
) -> Iterator[dict[str, Any]]:
    """The fields of each task cell, `inputs` among them.

    Args:
        suite: the suite.
        sites: all sites that are compared.
        rows: of each site, its captures and from which norm on rows are masked.
        compared: the key of a similarity cell by what is judged and the numbers of two sites.
    """
    if suite.tasks and not any(judged(suite, with_budgets=True)):
        raise ConfigError(
            "tasks: none of the similarities compares sites here. Name one of representations, such as cka, or with "
            "jaccard a method whose decompositions have atoms, such as itda."
        )
    for task in suite.tasks:
        pairs = [(i, j) for i, a in enumerate(sites) for j, b in enumerate(sites[: i + 1]) if asks(task, a, b)]
        if not pairs:
            raise ConfigError(
                f"tasks: {task.label} asks for no pair of this suite's sites. Look at the families of its models: "
                f"{', '.join(dict.fromkeys(site.family for site in sites))}."
            )
        takes_values = "values" in task.needs
        for subject in judged(suite, with_budgets=takes_values):
            what: dict[str, Any] = {"sites": [asdict(site) for site in sites]}
            if takes_values:
                oriented = [(i, j) if (subject.id, i, j) in compared else (j, i) for i, j in pairs]
                what["cells"] = [[i, j, compared[subject.id, i, j]] for i, j in oriented]
                upstream = [key for _, _, key in what["cells"]]
            else:
                what["rows"] = [[i, j] for i, j in pairs]
                used = sorted({i for pair in pairs for i in pair})
                what["of"] = {str(i): dict(rows[i]) for i in used}
                upstream = [side[name] for side in what["of"].values() for name in ("capture", "fit_capture")]
            yield {
                "inputs": {"task": task.inputs, "similarity": subject.similarity.inputs, **subject.of_fits, **what},
                "kind": "task",
                "label": f"{task.label} by {subject.label}",
                "group": content_key({"task": task.inputs, "judged": subject.id}),
                "task": {
                    **what,
                    "task": task.call,
                    "similarity": subject.similarity.call,
                    "method": subject.method and subject.method.call,
                    "seed": subject.seed,
                    "of_codes": "codes" in subject.similarity.needs,
                },
                "columns": {
                    **subject.columns,
                    "task": task.name,
                    "task_config": canonical_json(dict(task.params)),
                    "plugin_version": task.version,
                },
                "upstream": tuple(dict.fromkeys(upstream)),
            }
