"""Writes docs/reference/ from the code: verbs, keys of a suite, plugins, contracts, tables and metrics.

Run `python docs/generate.py` after changing any of these; a test compares the pages with what it writes elsewhere:
`python docs/generate.py FOLDER`.
"""

from __future__ import annotations

import argparse
import ast
import importlib.util
import inspect
import itertools
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import contracts
import meanings
import yaml

from harness.cli import main as cli
from harness.planning.suite import JudgeBudget, SuiteConfig, Tokens, Wandb
from harness.registry.metric import Metric, interval_columns
from harness.registry.parameters import describe, in_yaml
from harness.registry.plugin_manager import BUILT_IN, load_catalog
from harness.registry.specs import KINDS, PluginSpec
from harness.tables import model_similarities, scales
from harness.tables import tidy as tables
from harness.tables.circuits import CIRCUIT_SCORE_COLUMNS
from harness.tables.costs import (
    CAPTURE_SECONDS,
    COSTS,
    FIT_CPU_SECONDS,
    FIT_SECONDS,
    PARAMETERS,
    SEEDS,
    TOTAL_SECONDS,
)
from harness.tables.declared import Declared
from harness.tables.leaderboard import ends
from harness.tables.model_similarities import MODEL_SIMILARITY_COLUMNS
from harness.tables.verdicts import VERDICT_COLUMNS

ROOT = Path(__file__).parent.parent
REFERENCE = ROOT / "docs" / "reference"
_PLURALS = {"similarity": "similarities", "corpus": "corpora"}
# `name   definition` or `name: definition`, which may go on in lines that are indented further.
_DEFINITION = re.compile(r"^( *)([a-z]\w*)(?: {2,}|: )(\S.*(?:\n\1 +\S.*)*)", re.MULTILINE)


def pages() -> dict[str, str]:
    """All pages by their names."""
    made = {"cli.md": _cli(), "suites.md": _suites(), "plugins.md": _plugins(), "tables.md": _tables()}
    made["contracts.md"] = contracts.page(ROOT / "harness", KINDS)
    return {name: f"{text.strip()}\n" for name, text in made.items()}


def main(folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    for name, text in pages().items():
        (folder / name).write_text(text, encoding="utf-8")


def _cli() -> str:
    parser = cli._parser()
    verbs = next(action for action in parser._actions if isinstance(action, argparse._SubParsersAction)).choices
    parts = ["# Command line", str(cli.__doc__)]
    for name, verb in verbs.items():
        what, _, usage = str(verb.description).partition(": ")
        parts.append(f"## harness {name}\n\n{what[0].upper()}{what[1:]}.\n\n    {usage}")
        options = [action for action in verb._actions if action.option_strings and action.dest != "help"]
        lines = [f"- `{action.option_strings[0]}{_choices(action)}`: {action.help}" for action in options]
        parts += ["\n".join(lines)] if lines else []
    return "\n\n".join(parts)


def _choices(action: argparse.Action) -> str:
    return f" {'|'.join(map(str, action.choices))}" if action.choices else ""


def _suites() -> str:
    defaults = yaml.safe_load((ROOT / "conf" / "config.yaml").read_text(encoding="utf-8"))
    parts = ["# Suites", meanings.SUITES]
    for title, config, given in (
        ("Keys", SuiteConfig, defaults),
        ("tokens", Tokens, {}),
        ("judge_budget", JudgeBudget, defaults["judge_budget"]),
        ("wandb", Wandb, defaults["wandb"]),
    ):
        parts += [f"## {title}", _doc(config), _parameters([_of_suite(field, given) for field in describe(config)])]
    for folder, title in {"suite": "Suites there are", "model": "Models", "corpus": "Corpora"}.items():
        names = sorted((ROOT / "conf" / folder).glob("*.yaml"))
        about = [f"- `{path.stem}`{_comment(path)}" for path in names]
        parts += [f"## {title}", meanings.PRESETS[folder], "\n".join(about)]
    return "\n\n".join(parts)


def _of_suite(field: Mapping[str, str], given: Mapping[str, Any]) -> dict[str, str]:
    """A key of a suite, whose default may stand in conf/ and whose meaning in `docs/meanings.py`."""
    name = field["name"]
    default = in_yaml(given[name]) if name in given else field["default"]
    return {**field, "default": default, "meaning": field["meaning"] or meanings.KEYS.get(name, "")}


def _comment(path: Path) -> str:
    """The comment in the first lines of a file in conf/."""
    lines = path.read_text(encoding="utf-8").removeprefix("# @package _global_\n").splitlines()
    head = " ".join(line[2:] for line in itertools.takewhile(lambda line: line.startswith("# "), lines))
    return f": {head}" if head else ""


def _plugins() -> str:
    entries = load_catalog(()).entries
    parts = ["# Plugins", meanings.PLUGINS]
    for kind in KINDS:
        ours = [
            entry for (of_kind, _), entry in sorted(entries.items()) if of_kind == kind and entry.source == BUILT_IN
        ]
        parts.append(f"## {_PLURALS.get(kind, kind + 's').capitalize()}")
        parts += [_plugin(entry.spec) for entry in ours]
    return "\n\n".join(parts)


def _plugin(spec: PluginSpec) -> str:
    parts = [f"### {spec.kind}/{spec.name}", f"{spec.summary}. Version {spec.version}."]
    parts += [
        f"{word.capitalize()}: {', '.join(found) if isinstance(found, tuple) else 'see its parameters'}."
        for word in ("needs", "provides")
        if (found := getattr(spec, word))
    ]
    if spec.config is not None:
        parts += [_doc(spec.config), _parameters(describe(spec.config))]
    if definition := ast.get_docstring(_module(spec)):
        parts.append(f"```text\n{definition}\n```")
    return "\n\n".join(part for part in parts if part)


def _module(spec: PluginSpec) -> ast.Module:
    """The syntax tree of the module that a spec names, which is not imported."""
    found = importlib.util.find_spec(str(spec.factory).partition(":")[0])
    assert found is not None and found.origin is not None
    return ast.parse(Path(found.origin).read_text(encoding="utf-8"))


def _doc(config: type) -> str:
    """The docstring of a config; empty if a dataclass made it."""
    written = inspect.getdoc(config) or ""
    return "" if written.startswith(f"{config.__name__}(") else written.strip()


def _parameters(fields: Sequence[Mapping[str, str]]) -> str:
    rows = [(*(f"`{field[key]}`" for key in ("name", "type", "default")), field["meaning"]) for field in fields]
    return _table(("parameter", "type", "default", ""), rows) if rows else ""


def _definitions(docstring: str) -> Iterator[tuple[str, str]]:
    for _, name, text in _DEFINITION.findall(docstring):
        yield name, text


def _tables() -> str:
    columns = {
        "Columns of every table": _columns(tables.COLUMNS, "method"),
        "Columns of `similarity` besides": _columns(tables.SIMILARITY_COLUMNS, "similarity"),
        "Columns of `interp` besides": _columns(tables.INTERP_COLUMNS, "scorer"),
        "Columns of `tasks` besides": _columns(tables.TASK_COLUMNS, "similarity", "task"),
        "Columns of `circuits` besides": _columns(tables.CIRCUIT_COLUMNS, "behaviour"),
        "Columns of `leaderboard.csv`": _leaderboard() | _labels("method"),
        "Columns of `interpretability.csv`": meanings.INTERPRETABILITY | _labels("method", "scorer"),
        "Columns of `verdicts.parquet`": _meanings("VERDICTS", VERDICT_COLUMNS),
        "Columns of `task_scores.csv`": meanings.TASK_SCORES | _labels("method", "similarity", "task"),
        "Columns of `similarity_ranks.csv`": meanings.SIMILARITY_RANKS | _labels("method", "similarity"),
        "Columns of `circuit_scores.csv`": _meanings("CIRCUIT_SCORES", CIRCUIT_SCORE_COLUMNS)
        | _labels("method", "behaviour"),
        "Columns of `model_similarities.csv`": _meanings("MODEL_SIMILARITIES", MODEL_SIMILARITY_COLUMNS)
        | _labels("method", "similarity"),
        "Columns of `scales.csv`": _meanings("SCALES", scales.COLUMNS),
    }
    metrics = {
        "Metrics of evaluations": {metric.name: _said(metric) for own in _evaluations().values() for metric in own},
        "Metrics of `interp`": meanings.INTERP | _metrics("scorers"),
        "Metrics of `similarity`": meanings.SIMILARITY,
        "Metrics of `tasks`": meanings.TASKS,
        "Metrics of `circuits`": meanings.CIRCUITS,
        "Metrics of `cost`": {metric.name: _said(metric) for metric in COSTS},
    }
    parts = ["# Tables", meanings.TABLES]
    for title, found in {**columns, **metrics}.items():
        rows = [(f"`{name}`", meaning) for name, meaning in found.items()]
        parts += [f"## {title}", _table(("column" if title in columns else "metric", ""), rows)]
    definition = meanings.SCORES_OF_MODELS.format(inspect.getdoc(model_similarities))
    return "\n\n".join([*parts, meanings.REPORTED, "## Scores of two models", definition])


def _meanings(of: str, names: Iterable[str]) -> dict[str, str]:
    """The meanings in `docs/meanings.py` of names that the code has."""
    known: dict[str, str] = vars(meanings)[of]
    if unknown := [name for name in names if name not in known]:
        raise SystemExit(f"docs/meanings.py: {of} has no {', '.join(unknown)}. Write what it means.")
    return {name: known[name] for name in names}


def _columns(names: Iterable[str], *kinds: str) -> dict[str, str]:
    """The columns of a table, with the labels at its end of plugins of these kinds."""
    return _meanings("COLUMNS", names) | _labels(*kinds)


def _labels(*kinds: str) -> dict[str, str]:
    return _meanings("COLUMNS", [f"{kind}_label" for kind in kinds])


def _metrics(folder: str) -> dict[str, str]:
    """The metrics that modules of a kind of plugins define in their docstrings, with their meanings."""
    found: dict[str, str] = {}
    for path in sorted((ROOT / "plugins" / folder).glob("*.py")):
        docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        found |= {name: _in_one_line(text) for name, text in _definitions(docstring)}
    return found


def _evaluations() -> dict[str, tuple[Metric, ...]]:
    """The metrics that built-in evaluations declare."""
    entries = load_catalog(()).entries.values()
    ours = [entry.spec for entry in entries if entry.spec.kind == "evaluation" and entry.source == BUILT_IN]
    return {spec.name: spec.metrics for spec in ours}


def _said(metric: Metric) -> str:
    return _in_one_line(metric.meaning) + "."


def _leaderboard() -> dict[str, str]:
    """The columns of a leaderboard with the built-in evaluations, in their order."""
    known, declared = meanings.LEADERBOARD, Declared(_evaluations())
    first = [name for name in known if name in meanings.COLUMNS]
    engine = [FIT_SECONDS, FIT_CPU_SECONDS, PARAMETERS, SEEDS]
    found = {name: known[name] for name in first}
    found |= {metric.name: _said(metric) for metric in (*(own for _, own in declared.columns.values()), *engine)}
    found |= {CAPTURE_SECONDS.name: known[CAPTURE_SECONDS.name], TOTAL_SECONDS.name: _said(TOTAL_SECONDS)}
    for metric in declared.compared:
        for end, side in zip(ends(metric.name), ("Lower", "Higher"), strict=True):
            found[end] = f"{side} {meanings.INTERVAL.format(metric.name)}"
        found[interval_columns(metric.name)[-1]] = meanings.DOCUMENTS.format(metric.name)
    return found | {name: meaning for name, meaning in known.items() if name not in found}


def _in_one_line(text: str) -> str:
    line = " ".join(text.split())
    return line[0].upper() + line[1:] if line[1:2].islower() else line


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if sys.argv[1:] else REFERENCE)
