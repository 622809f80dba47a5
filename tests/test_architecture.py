"""The rules of the house that a reader would otherwise have to trust."""

from __future__ import annotations

import ast
import functools
import importlib
import inspect
import itertools
import re
import subprocess
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import harness
from harness.registry import hookspecs

ROOT = Path(__file__).parent.parent
OURS = ("harness", "plugins")
MAX_MODULE_LINES = 350
MAX_FUNCTION_LINES = 40
LEANING = re.compile(
    r"(As|By|For|From|How|If|In|Its|Of|That|Their|The same|Those|To|What|When|Where|Whether|Which|Who|Whom|With)\b"
)
FLOORS = (
    *("version", "errors", "wording", "files", "registry", "contracts", "planning", "storage"),
    *(
        "capturing",
        "fitting",
        "sae",
        "comparing",
        "circuits",
        "tables",
        "views",
        "latents",
        "monitoring",
        "running",
        "asking",
        "api",
        "stages",
    ),
    *("testing", "templates", "report", "cli", "__main__"),
)
"""The files and packages of `harness/`: each imports from those before it only."""
THIRD_PARTY = {
    "accelerate",
    "datasets",
    "filelock",
    "gguf",
    "httpx",
    "tenacity",
    "huggingface_hub",
    "jaxtyping",
    "jinja2",
    "networkx",
    "numba",
    "numpy",
    "pandas",
    "pyarrow",
    "safetensors",
    "scipy",
    "sklearn",
    "threadpoolctl",
    "tokenizers",
    "torch",
    "transformers",
    "triton",
}
UNSAFE = re.compile(
    r"trust_remote_code\s*=\s*True|torch\.load\(|weights_only\s*=\s*False|allow_pickle\s*=\s*True"
    r"|^\s*(import|from) (pickle|dill|cloudpickle|joblib)\b",
    re.MULTILINE,
)


def _modules(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


@functools.cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def _imports(path: Path) -> Iterator[tuple[str, str | None]]:
    """(module, name) of every import in a file, those inside functions too."""
    for node in ast.walk(_tree(path)):
        if isinstance(node, ast.Import):
            yield from ((alias.name, None) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield from ((str(node.module), alias.name) for alias in node.names)


def _module(path: Path) -> str:
    """The name that a file of `harness/` or `plugins/` is imported by."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    parts = ("harness", *parts) if parts[0] == "plugins" else parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _part(module: str) -> str:
    """The package, or the file, at the top of `harness/` that a module belongs to."""
    return module.split(".")[1] if "." in module else module


@functools.cache
def _graph() -> dict[str, set[str]]:
    """The modules of the engine and the plugins that each imports."""
    paths = {_module(path): path for path in _modules(*OURS)}
    graph: dict[str, set[str]] = {}
    for module, path in paths.items():
        imports = [*_imports(path), *(_imports(path.with_suffix(".pyi")) if path.with_suffix(".pyi").exists() else ())]
        named = {f"{of}.{name}" if f"{of}.{name}" in paths else of for of, name in imports}
        graph[module] = (named & set(paths)) - {module}
    return graph


def _named(path: Path) -> set[str]:
    """The identifiers of a file and its strings that are one word; words in prose are no reference to a method."""
    names = set()
    for node in ast.walk(_tree(path)):
        if isinstance(node, ast.Name | ast.arg | ast.FunctionDef | ast.ClassDef):
            name = node.id if isinstance(node, ast.Name) else node.arg if isinstance(node, ast.arg) else node.name
            names.add(name)
        elif isinstance(node, ast.Attribute):
            names.add(node.attr)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and re.fullmatch(r"\w+", node.value):
            names.add(node.value)
    return names


def test_the_engine_knows_no_plugin() -> None:
    for path in _modules("harness"):
        imported = [module for module, _ in _imports(path) if f"{module}.".startswith(("plugins.", "harness.plugins."))]
        assert not imported, f"{path} imports {imported}"
    built_in = {spec.name for kind in ("method", "similarity", "scorer") for spec in harness.catalog(kind)}
    measured = {metric.name for spec in harness.catalog("evaluation") for metric in spec.metrics}
    # Also words of Python, statistics and paths; columns of `interp`; the kind of plugin.
    everyday = {"mean", "identity", "relative", "density", "tasks"}
    names = (built_in | measured) - everyday
    found = {str(path): sorted(_named(path) & names) for path in _modules("harness")}
    assert not {path: named for path, named in found.items() if named}


def test_plugins_use_public_names_only() -> None:
    for path in _modules("plugins"):
        for module, name in _imports(path):
            top = module.split(".")[0]
            if module == "harness":
                assert name is None or name in {*harness.__all__, "plugins"}, f"{path}: harness.{name} is not public"
            elif top == "harness":
                assert module.startswith("harness.plugins"), f"{path} imports {module}; only harness itself is public"
            else:
                assert top in THIRD_PARTY | sys.stdlib_module_names, f"{path} imports {top}"
        for node in ast.walk(_tree(path)):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "harness":
                assert node.attr in harness.__all__, f"{path} uses harness.{node.attr}, which is not public"


def test_no_module_is_part_of_an_import_circle() -> None:
    """Imports for typing and those inside functions count too."""
    try:
        tuple(TopologicalSorter(_graph()).static_order())
    except CycleError as error:
        pytest.fail(f"a circle of imports: {' -> '.join(error.args[1])}")


def test_no_package_imports_from_one_above_it() -> None:
    floor = {name: i for i, name in enumerate(FLOORS)}
    parts = {_part(module) for module in _graph() if not module.startswith("harness.plugins")} - {"harness"}
    assert parts == set(FLOORS)
    upwards = [
        f"{module} imports {imported}"
        for module, others in _graph().items()
        if not module.startswith("harness.plugins") and module != "harness"
        for imported in others
        if imported == "harness" or floor[_part(imported)] > floor[_part(module)]
    ]
    assert not upwards


def test_the_top_of_the_engine_is_short() -> None:
    assert len([path for path in (ROOT / "harness").iterdir() if path.is_file()]) < 10


def test_the_built_ins_are_imported_as_part_of_harness() -> None:
    """A folder `plugins/` where a user stands, or another distribution's, has that name."""
    paths = _modules("harness", "plugins", "tests", "benchmarks", "docs", "results")
    assert not [path for path in paths if any(module.split(".")[0] == "plugins" for module, _ in _imports(path))]


def test_nothing_unpickles_or_runs_foreign_code() -> None:
    assert not [path for path in _modules(*OURS) if UNSAFE.search(path.read_text(encoding="utf-8"))]


def test_modules_are_short_and_say_what_they_are_for() -> None:
    for path in _modules(*OURS):
        text = path.read_text(encoding="utf-8")
        assert len(text.splitlines()) <= MAX_MODULE_LINES, path
        assert not text or ast.get_docstring(_tree(path)), f"{path} has no docstring"


def _docstrings(path: Path) -> Iterator[str]:
    """The docstrings of a file, and the strings below its attributes."""
    for node in ast.walk(_tree(path)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            yield from filter(None, [ast.get_docstring(node)])
            for above, below in itertools.pairwise(node.body):
                match above, below:
                    case ast.Assign() | ast.AnnAssign(), ast.Expr(ast.Constant(str(text))):
                        yield text


def test_docstrings_stand_alone() -> None:
    """They begin with a noun or a verb, not with a word that leans on the line above."""
    found = {str(path): [text for text in _docstrings(path) if LEANING.match(text)] for path in _modules(*OURS)}
    elsewhere = _modules("tests", "benchmarks", "docs", "results")
    found |= {str(path): [text for text in _docstrings(path) if re.match(r"(Of|What) ", text)] for path in elsewhere}
    assert not {path: texts for path, texts in found.items() if texts}


def test_functions_are_read_without_scrolling() -> None:
    for path in _modules(*OURS):
        for node in ast.walk(_tree(path)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                n_lines = int(node.end_lineno or 0) - node.lineno + 1
                assert n_lines <= MAX_FUNCTION_LINES, f"{path}: {node.name} has {n_lines} lines"


def test_specs_import_no_torch() -> None:
    code = "import sys, harness.plugins as p; assert p.harness_specs(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_every_reference_of_a_spec_leads_somewhere() -> None:
    for spec in harness.catalog():
        fields = [getattr(spec, name, None) for name in ("factory", "identity", "shape", "pairs", "needs")]
        for reference in (field for field in fields if isinstance(field, str)):
            module, attribute = reference.split(":")
            assert callable(getattr(importlib.import_module(module), attribute)), f"{spec.kind}/{spec.name}"


def test_every_spec_has_a_summary_of_one_line() -> None:
    for spec in harness.catalog():
        assert 10 <= len(spec.summary) <= 100 and "\n" not in spec.summary, f"{spec.kind}/{spec.name}"
        if spec.config is not None:
            assert spec.config.__doc__ and not spec.config.__doc__.startswith(f"{spec.config.__name__}("), spec.name


def test_every_hook_and_public_name_is_documented() -> None:
    hooks = [value for value in vars(hookspecs).values() if hasattr(value, "harness_spec")]
    assert hooks
    assert all(inspect.getdoc(hook) for hook in hooks)
    for name in harness.__all__:
        value = getattr(harness, name)
        assert not callable(value) or inspect.getdoc(value), f"harness.{name}"
    assert {*harness.__all__} < {*dir(harness)}


def test_the_scan_would_notice() -> None:
    """The rules above, on text that breaks them."""
    assert UNSAFE.search("model = load(path, trust_remote_code=True)")
    assert UNSAFE.search("import os\nimport pickle\n")
    assert UNSAFE.search("torch.load(path)")
    assert not UNSAFE.search("trust_remote_code=False  # nothing is ever unpickled")
