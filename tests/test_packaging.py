"""The wheel, installed and used from a folder that is not the checkout."""

from __future__ import annotations

import os
import re
import shutil
import site
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCES = ("harness", "plugins", "conf", "pyproject.toml", "README.md", "LICENSE")
CPU_SECONDS = 1.0


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    source = tmp_path_factory.mktemp("source")  # building leaves files behind
    ignored = shutil.ignore_patterns("__pycache__")
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, symlinks=True, ignore=ignored)
        else:
            shutil.copy(ROOT / name, source)
    offline = ["--no-deps", "--no-build-isolation", "--no-index", "--quiet"]
    target = tmp_path_factory.mktemp("wheel")
    subprocess.run([sys.executable, "-m", "pip", "wheel", *offline, "--wheel-dir", target, source], check=True)
    (built,) = target.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of a fresh environment that has the wheel, and sees the dependencies of this one."""
    folder = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    (packages,) = folder.glob("lib/python3*/site-packages")
    # A .pth file adds the folder but does not run the .pth files in it, so the editable install stays unseen.
    (packages / "dependencies.pth").write_text("\n".join(site.getsitepackages()))
    offline = ["--no-deps", "--no-index", "--quiet"]
    install = [sys.executable, "-m", "pip", "--python", folder / "bin" / "python", "install", *offline, wheel]
    subprocess.run(install, check=True)
    return folder / "bin" / "python"


def test_the_lock_has_hashes_and_the_versions_that_are_known_to_work() -> None:
    text = (ROOT / "docs" / "requirements.lock").read_text()
    entries = [entry.replace("\\\n", " ").split() for entry in re.split(r"\n(?! )", text.strip())]
    assert all(any(word.startswith("--hash=sha256:") for word in entry) for entry in entries)
    assert "://" not in text and not re.search("^-", text, re.MULTILINE)  # no index of whoever made it
    locked = dict(entry[0].split("==") for entry in entries)
    constraints = dict(
        line.split("==") for line in (ROOT / "constraints.txt").read_text().lower().split() if "==" in line
    )
    assert {name: version for name, version in constraints.items() if locked.get(name, version) != version}.keys() <= {
        "triton"
    }
    needed = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    assert {re.split(r"[><=;\[ ]", name)[0] for name in needed} <= locked.keys()


def _run(python: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run([python, *arguments], cwd=folder, env=variables, capture_output=True, text=True)


def test_the_wheel_holds_every_module_and_config(wheel: Path) -> None:
    held = set(zipfile.ZipFile(wheel).namelist())
    modules = {path.relative_to(ROOT) for path in (ROOT / "harness").rglob("*.py")}
    linked = [path for name in ("plugins", "conf") for path in (ROOT / name).rglob("*")]
    configs = {Path("harness") / path.relative_to(ROOT) for path in linked if path.suffix in (".py", ".yaml")}
    assert modules and not {str(path) for path in modules | configs} - held
    assert {"harness/py.typed", "harness/__init__.pyi"} <= held
    assert {f"harness/report/{name}" for name in ("index.html", "style.css", "app.js")} <= held
    assert not [name for name in held if name.startswith(("tests/", "conf/", "plugins/", "benchmarks/"))]


def test_it_works_from_another_folder(python: Path, tmp_path: Path) -> None:
    code = (
        "import importlib.resources, sys, time, harness\n"
        "assert harness.catalog()\n"
        "seconds = time.process_time()\n"
        "assert (importlib.resources.files('harness.conf') / '__init__.py').is_file()\n"
        "print(harness.__file__, 'torch' in sys.modules, seconds)"
    )
    finished = _run(python, tmp_path, "-c", code)
    assert finished.returncode == 0, finished.stderr
    place, imports_torch, seconds = finished.stdout.split()
    assert Path(place).is_relative_to(python.parent.parent)  # not the checkout
    assert imports_torch == "False"
    assert float(seconds) < CPU_SECONDS


def test_list_is_quick_and_imports_no_torch(python: Path, tmp_path: Path) -> None:
    before = os.times()
    finished = _run(python, tmp_path, "-X", "importtime", "-m", "harness", "list")
    after = os.times()
    assert finished.returncode == 0, finished.stderr
    assert "packaged" in finished.stdout
    assert " torch\n" not in finished.stderr
    cpu_seconds = after.children_user + after.children_system - before.children_user - before.children_system
    assert cpu_seconds < CPU_SECONDS
    assert (python.parent / "harness").is_file()


def test_the_checkout_finds_its_configs(tmp_path: Path) -> None:
    code = "import importlib.resources; print(importlib.resources.files('harness.conf') / '__init__.py')"
    finished = _run(Path(sys.executable), tmp_path, "-c", code)
    assert Path(finished.stdout.strip()).resolve() == ROOT / "conf" / "__init__.py"


def test_methods_metrics_and_kernels_need_no_more_than_torch() -> None:
    """A machine with cards may lack what tracks runs, composes suites, reads GGUF, or draws."""
    code = """
import sys

class Absent:
    NAMES = {"wandb", "hydra", "omegaconf", "gguf", "datasets", "accelerate", "matplotlib", "jinja2", "rich", "ray"}

    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in self.NAMES:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent())
import torch, harness
x = torch.randn(300, 16, generator=torch.Generator().manual_seed(0))
for name, params in {"topk_sae": {"n_latents": 32, "passes": 1}, "itda": {"max_atoms": 40}}.items():
    fitted = harness.fit(harness.create("method", name, k=4, **params), x)
    rows = harness.create("evaluation", "reconstruction").evaluate(fitted, harness.context_of(x))
    assert {row.metric: row.value for row in rows}["explained_variance"] > 0, name
assert harness.create("similarity", "cka")(x, x) > 0.99
from harness.plugins.methods.cuda import pursuit, sparse_largest, sparse_screening, split_products, unit_rows_descent
assert torch.equal(sparse_largest.largest_places(x[:2], 3), x[:2].topk(3).indices.sort().values)
assert not Absent.NAMES & sys.modules.keys()
"""
    pytest.importorskip("triton", reason="kernels need Triton, which there is for Linux only")
    environment = os.environ | {"TRITON_INTERPRET": "1"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
