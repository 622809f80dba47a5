"""Loading plugins: whatever is wrong with one becomes a readable problem and leaves the others as they were."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent

import pytest

import harness
from harness.registry.plugin_manager import Catalog, load_catalog

GOOD = """
    from __future__ import annotations

    from dataclasses import dataclass

    import harness


    @dataclass
    class Config:
        k: int = 8
        sides: tuple[int, ...] | None = None


    @harness.hookimpl
    def harness_specs():
        return [harness.Spec(kind="method", name="NAME", version=1, summary="x", config=Config, factory="STEM:Acme")]


    class Acme:
        def __init__(self, config):
            self.k = config.k
"""
RETURNS = """
    import harness

    @harness.hookimpl
    def harness_specs():
        return RESULT
"""


def _good(name: str, stem: str = "good") -> str:
    return GOOD.replace("NAME", name).replace("STEM", stem)


def _spec(**changes: str) -> str:
    """The source of a plugin with one Spec, some of its arguments (as source) changed."""
    arguments = {"kind": "'method'", "name": "'acme'", "version": "1", "summary": "'x'", "factory": "'a:B'"} | changes
    call = ", ".join(f"{name}={value}" for name, value in arguments.items())
    return RETURNS.replace("RESULT", f"[harness.Spec({call})]")


@pytest.fixture
def load(tmp_path: Path) -> Callable[..., Catalog]:
    """Loads files, given as stem=source, in order."""

    def load(**sources: str) -> Catalog:
        paths = [tmp_path / f"{stem}.py" for stem in sources]
        for path, source in zip(paths, sources.values(), strict=True):
            path.write_text(dedent(source))
        return load_catalog(tuple(map(str, paths)), entry_points=False)

    return load


def test_a_single_file_registers_and_its_stem_leads_to_its_factory(load: Callable[..., Catalog]) -> None:
    catalog = load(good=_good("acme"))
    assert catalog.problems == []
    assert catalog.create("method", "acme", {"k": 3}).k == 3
    assert catalog.find("method", "acme").version.startswith("sha256:")


def test_a_file_is_read_anew_where_it_or_the_folder_has_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At once, and where the new file is as long as the old."""
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    versions = []
    for folder, version in (("a", 1), ("b", 2), ("a", 3)):
        (tmp_path / folder).mkdir(exist_ok=True)
        monkeypatch.chdir(tmp_path / folder)
        Path("acme.py").write_text(dedent(_spec(version=str(version))))
        found = load_catalog(("acme.py",), entry_points=False)
        assert found is load_catalog(("acme.py",), entry_points=False)
        versions.append(found.find("method", "acme").spec.version)
    assert versions == [1, 2, 3]


def test_a_file_named_like_a_standard_module_does_not_shadow_it(load: Callable[..., Catalog]) -> None:
    catalog = load(json=_good("acme", stem="json"))
    assert catalog.create("method", "acme", {}).k == 8
    assert json is sys.modules["json"]
    assert hasattr(sys.modules["json"], "dumps")


def test_what_a_plugin_prints_is_not_taken_for_the_answer_of_a_command(
    load: Callable[..., Catalog], capsys: pytest.CaptureFixture[str]
) -> None:
    load(loud="print('at import')")
    assert capsys.readouterr() == ("", "at import\n")


def test_a_factory_may_be_a_callable(load: Callable[..., Catalog]) -> None:
    catalog = load(acme=_spec(factory="lambda config: 'made'"))
    assert catalog.create("method", "acme", {}) == "made"


ODD = "type('Odd', (), {'__repr__': lambda self: 1 / 0})()"
BROKEN = {
    "import_error": ("import no_such_module", "ModuleNotFoundError: No module named 'no_such_module'"),
    "syntax_error": ("def f(:", "SyntaxError"),
    "exit_at_import": ("import sys; sys.exit('bye')", "SystemExit: bye"),
    "misspelt_hook": (RETURNS.replace("def harness_specs", "def harness_spec"), "unknown hook 'harness_spec'"),
    "unmarked_hook": (RETURNS.replace("@harness.hookimpl", ""), "mark it with @harness.hookimpl"),
    "argument": (RETURNS.replace("harness_specs()", "harness_specs(config)"), "config"),
    "raises": (RETURNS.replace("RESULT", "1 / 0"), "harness_specs() raised ZeroDivisionError"),
    "exits": (RETURNS.replace("RESULT", "__import__('sys').exit(3)"), "harness_specs() raised SystemExit: 3"),
    "none": (RETURNS.replace("RESULT", "None"), "returned None. Return a list of Specs"),
    "mute": ("raise type('Mute', (BaseException,), {'__str__': lambda self: 1 / 0})", "Mute: (its text can't be had"),
    "odd_answer": (RETURNS.replace("RESULT", ODD), "what it gives can't be read: ZeroDivisionError"),
    "odd_spec": (RETURNS.replace("RESULT", f"[{ODD}]"), "what it gives can't be read: ZeroDivisionError"),
    "long_name": (_spec(name="'a b' * 10_000"), "… (cut: it has"),
    "bare_spec": (RETURNS.replace("RESULT", "harness.Spec('method', 'acme', 1, '', 'a:B')"), "Return a list of Specs"),
    "not_a_spec": (RETURNS.replace("RESULT", "['pca']"), "'pca', which is not a harness.Spec"),
    "bad_kind": (_spec(kind="'methd'"), "unknown kind 'methd'. Did you mean 'method'?"),
    "bad_name": (_spec(name="'Acme-1'"), "bad name 'Acme-1'"),
    "bad_version": (_spec(version="'1.0'"), "version is '1.0'"),
    "bad_config": (_spec(config="dict"), "config is <class 'dict'>; give a dataclass"),
    "bad_field": (_spec(shape="'a:b'"), "bad_field.py: Spec method/acme: MethodSpec has no field 'shape'."),
    "bad_word": (_spec(provides="('atom',)"), "Spec method/acme: provides: unknown word 'atom'. Did you mean 'atoms'?"),
    "bad_factory": (_spec(factory="'acme.Acme'"), "factory is 'acme.Acme'; give 'module:attribute'"),
    "bad_identity": (_spec(identity="'acme.Acme'"), "identity is 'acme.Acme'; give 'module:attribute'"),
    "bad_needs": (
        _spec(kind="'similarity'", needs="'atoms'"),
        "needs is 'atoms'; give a tuple (write ('atoms',), with the comma), 'mod",
    ),
    "bad_annotation": (
        _good("acme", "bad_annotation").replace("k: int", "k: Tensor"),
        "annotations of Config can't be evaluated: NameError: name 'Tensor' is not defined",
    ),
}


CALLS = {
    "harness.MethodSpec('acme', 1, 'x', 'a:B', shape='a:b')": "MethodSpec has no field 'shape'. Valid: config, ",
    "harness.MethodSpec('acme', 1, 'x', 'a:B', provide=())": "MethodSpec has no field 'provide'. Did you mean 'provide",
    "harness.MethodSpec('acme', 1, 'x')": "MethodSpec lacks 'factory'. Its fields: name, version, summary, factory",
    "harness.TaskSpec('acme', 1, 'x', 'a:B')": "TaskSpec lacks 'pairs'. Its fields: ",
    "harness.CorpusSpec(*'12345678')": "CorpusSpec takes from 5 to 7 positional arguments but 9 were given. Its ",
    "harness.EvaluationSpec('acme', 1, 'x', 'a:B', metrics=(harness.Metric('m', 'm', mean='x'),))": (
        "Metric has no field 'mean'. Did you mean 'meaning'?"
    ),
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("place", ["in harness_specs()", "at import"])
def test_the_fields_of_a_class_are_told_where_others_are_given(
    call: str, place: str, load: Callable[..., Catalog]
) -> None:
    if place == "at import":
        source = dedent(RETURNS.replace("RESULT", "SPECS")) + f"\nSPECS = [{call}]\n"
    else:
        source = RETURNS.replace("RESULT", f"[{call}]")
    (problem,) = load(acme=source).problems
    line = [i for i, text in enumerate(source.splitlines(), 1) if call in text]
    assert f"TypeError in line {line[0]}: {CALLS[call]}" in problem and "acme.py: " in problem


def test_a_type_error_of_the_plugin_itself_is_told_as_it_is(load: Callable[..., Catalog]) -> None:
    (problem,) = load(acme=RETURNS.replace("RESULT", "[1 + 'x']")).problems
    assert "harness_specs() raised TypeError: unsupported operand" in problem


def test_the_good_specs_of_a_file_are_kept_beside_a_bad_one(load: Callable[..., Catalog]) -> None:
    specs = "harness.MethodSpec('good', 1, 'x', 'a:B'), harness.MethodSpec('bad', 0, 'x', 'a:B')"
    catalog = load(acme=RETURNS.replace("RESULT", f"[{specs}, harness.CorpusSpec('late', 1, 'x', 'a:B'), 'pca']"))
    assert catalog.find("method", "good").spec.version == 1 and "late" in catalog.names("corpus")
    bad, no_spec = catalog.problems
    assert "acme.py: Spec method/bad: version is 0" in bad and "The others of this plugin are offered." in bad
    assert "'pca', which is not a harness.Spec" in no_spec
    with pytest.raises(harness.ConfigError, match=r"unknown method 'bad'.*version is 0"):
        catalog.find("method", "bad")


def test_where_no_spec_could_be_had_nothing_is_offered(load: Callable[..., Catalog]) -> None:
    (problem,) = load(acme=RETURNS.replace("RESULT", "1 / 0")).problems
    assert problem.endswith("raised ZeroDivisionError: division by zero. Nothing of it is offered.")


@pytest.mark.parametrize("stem", BROKEN)
def test_a_broken_file_is_one_problem_and_the_next_one_loads(stem: str, load: Callable[..., Catalog]) -> None:
    source, expected = BROKEN[stem]
    catalog = load(**{stem: source, "good": _good("still_here")})
    (problem,) = catalog.problems
    assert expected in problem
    assert f"{stem}.py: " in problem
    assert catalog.create("method", "still_here", {}).k == 8


def test_an_interrupt_is_not_swallowed(load: Callable[..., Catalog]) -> None:
    with pytest.raises(KeyboardInterrupt):
        load(interrupt="raise KeyboardInterrupt")


def test_two_plugins_of_one_name_name_each_other_and_neither_is_used(load: Callable[..., Catalog]) -> None:
    catalog = load(first=_good("acme", "first"), second=_good("acme", "second"), third=_good("acme", "third"))
    assert len(catalog.problems) == 2
    assert all("first.py" in problem for problem in catalog.problems)
    with pytest.raises(harness.ConfigError, match=r"(?s)offered by several plugins.*first\.py.*second\.py.*third\.py"):
        catalog.find("method", "acme")


def test_a_built_in_keeps_its_name(load: Callable[..., Catalog]) -> None:
    source = _spec(kind="'corpus'", name="'files'")
    catalog = load(impostor=source)
    assert "'files' is the name of a built-in. Choose another name." in catalog.problems[0]
    assert catalog.find("corpus", "files").source == "built-in"


def test_an_unknown_name_suggests_near_ones_and_mentions_the_plugins_that_failed(load: Callable[..., Catalog]) -> None:
    catalog = load(good=_good("acme"), broken="import no_such_module")
    with pytest.raises(harness.ConfigError) as caught:
        catalog.find("method", "acmee")
    assert "unknown method 'acmee'. Did you mean 'acme'?" in str(caught.value)
    assert "no_such_module" in str(caught.value)


def test_an_unknown_kind_suggests_near_ones() -> None:
    with pytest.raises(harness.ConfigError, match=r"unknown kind 'methods'\. Did you mean 'method'"):
        load_catalog().find("methods", "pca")


def test_a_wrong_key_and_a_wrong_value_are_reported_together(load: Callable[..., Catalog]) -> None:
    with pytest.raises(harness.ConfigError) as caught:
        load(good=_good("acme")).create("method", "acme", {"kk": 1, "k": "many"})
    assert caught.value.problems == [
        "method/acme.kk: unknown key. Did you mean 'k'? Valid: k, sides.",
        "method/acme.k: 'many' is not of type int.",
    ]


@pytest.mark.parametrize(
    ("factory", "expected"),
    [
        ("no_such_module:Acme", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("acme:Missing", "has no attribute 'Missing'"),
    ],
)
def test_a_factory_that_is_not_there_is_an_error_when_used(
    factory: str, expected: str, load: Callable[..., Catalog]
) -> None:
    catalog = load(acme=_spec(factory=repr(factory)))
    assert catalog.problems == []
    with pytest.raises(harness.PluginError, match=f"method/acme .*acme.py.*{expected}"):
        catalog.create("method", "acme", {})


def test_an_implementation_that_exits_at_import_is_an_error(
    load: Callable[..., Catalog], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "exits_when_used.py").write_text("raise SystemExit(1)")
    monkeypatch.syspath_prepend(tmp_path)
    catalog = load(acme=_spec(factory="'exits_when_used:Acme'"))
    with pytest.raises(harness.PluginError, match="SystemExit"):
        catalog.create("method", "acme", {})


def test_a_missing_file_and_two_files_of_one_name_are_errors(load: Callable[..., Catalog], tmp_path: Path) -> None:
    with pytest.raises(harness.ConfigError, match=r"no file 'nowhere\.py'"):
        load_catalog(("nowhere.py",))
    load(acme=_good("acme", "acme"))
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "acme.py").write_text(dedent(_good("other", "acme")))
    with pytest.raises(harness.ConfigError, match=r"two files are named 'acme\.py'"):
        load_catalog((str(tmp_path / "acme.py"), str(tmp_path / "other" / "acme.py")))


LIST = "import harness, json; print(json.dumps([s.name for s in harness.catalog()]))"


def _install(site: Path, distribution: str, module: str, source: str) -> None:
    """A distribution as pip leaves it: a module and its metadata."""
    (site / f"{module}.py").write_text(dedent(source))
    info = site / f"{distribution}-1.2.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.2\n")
    (info / "entry_points.txt").write_text(f"[harness.plugins]\nplugin = {module}\n")


def _run(code: str, *paths: Path, cwd: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    variables = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, paths))} | environment
    return subprocess.run([sys.executable, "-c", code], env=variables, cwd=cwd, capture_output=True, text=True)


def test_installed_plugins_load_beside_broken_ones_and_can_be_left_out(tmp_path: Path) -> None:
    _install(tmp_path, "fine", "fine_plugin", _good("fine_method", "fine_plugin"))
    _install(tmp_path, "twin_a", "twin_a", _good("twin", "twin_a"))
    _install(tmp_path, "twin_b", "twin_b", _good("twin", "twin_b"))
    _install(tmp_path, "exiting", "exiting_plugin", "raise SystemExit(1)")
    problems = "from harness.registry.plugin_manager import load_catalog; print(*load_catalog().problems, sep='\\n')"
    listed = _run(LIST, tmp_path)
    assert listed.returncode == 0, listed.stderr
    assert "fine_method" in json.loads(listed.stdout)
    assert "twin" not in json.loads(listed.stdout)
    assert _run(problems, tmp_path).stdout.splitlines() == [
        "exiting 1.2: cannot import 'exiting_plugin': SystemExit: 1",
        "twin_b 1.2: method 'twin' is also offered by twin_a 1.2. "
        "Neither can be used until one is renamed or uninstalled.",
    ]
    assert "fine_method" not in json.loads(_run(LIST, tmp_path, HARNESS_PLUGINS="off").stdout)


@pytest.mark.parametrize("is_package", [True, False])
@pytest.mark.parametrize("is_working_folder", [True, False])
def test_another_package_named_plugins_does_no_harm(is_package: bool, is_working_folder: bool, tmp_path: Path) -> None:
    """A folder where the user stands, which Python looks into first, or another distribution's."""
    (tmp_path / "plugins").mkdir()
    if is_package:
        (tmp_path / "plugins" / "__init__.py").write_text("mark = 'theirs'")
    code = f"{LIST}; import plugins; print(getattr(plugins, 'mark', None))"
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    finished = _run(code, cwd=tmp_path) if is_working_folder else _run(code, tmp_path, cwd=elsewhere)
    assert finished.returncode == 0, finished.stderr
    listed, theirs = finished.stdout.splitlines()
    assert "itda" in json.loads(listed)
    assert theirs == ("theirs" if is_package else "None")


def test_the_catalog_needs_no_torch() -> None:
    finished = _run("import sys, harness; assert harness.catalog(); sys.exit('torch' in sys.modules)")
    assert finished.returncode == 0, finished.stderr
