"""Fixtures that several folders of tests share."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.support.shared import once
from tests.support.warm import warm

# Tensors are tiny here: more threads only wait for each other, and tests run beside each other. In child processes too,
# whose numbers are compared with those of this one. `make test-all` asks for more threads, to see that numbers hold.
_THREADS = os.environ.get("TEST_THREADS", "1")
os.environ["OMP_NUM_THREADS"] = _THREADS
torch.set_num_threads(int(_THREADS))

# Without a card Triton's kernels are interpreted, which is chosen when they are defined.
_HAS_CUDA = torch.cuda.is_available()
if not _HAS_CUDA:
    os.environ["TRITON_INTERPRET"] = "1"

_EXTERNAL_PLUGIN = Path(__file__).parent / "external_plugin"


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("gpu") and not _HAS_CUDA:
        pytest.skip("needs a CUDA device")


@pytest.fixture(scope="session", autouse=True)
def _known_plugin_files(shared_folder: Path) -> Iterator[None]:
    """Keep what is known of plugin files that were run apart from what the user's own runs know."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(shared_folder / "state"))
        yield


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for all test processes of this call."""
    own = tmp_path_factory.getbasetemp()
    folder = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "shared"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def warm_popen() -> Iterator[type[subprocess.Popen]]:
    """In place of `subprocess.Popen`, where the start of a worker is not the point."""
    with warm() as popen:
        yield popen


@pytest.fixture
def warm_workers(warm_popen: type[subprocess.Popen], monkeypatch: pytest.MonkeyPatch) -> None:
    """Start workers so in a test."""
    monkeypatch.setattr(subprocess, "Popen", warm_popen)


@pytest.fixture(scope="session")
def tiny_texts(shared_folder: Path) -> Path:
    """A cache with texts for models of 400 tokens that are trained on the spot, and without any model."""
    return once(shared_folder / "texts", _tiny_texts)


def _tiny_texts(cache: Path) -> None:
    from harness.plugins.models import SeedlingConfig  # which imports transformers: seconds that few tests need
    from harness.plugins.models.planning import seedling_recipe
    from harness.plugins.models.training_texts import load_texts

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HARNESS_CACHE", str(cache))
        load_texts(seedling_recipe(SeedlingConfig(vocabulary=400, corpus="bible"))["corpus"], 400)


@pytest.fixture(scope="session")
def external_plugin_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds the installed example plugin: put it on PYTHONPATH and the plugin is there."""
    source = tmp_path_factory.mktemp("source") / "external_plugin"
    shutil.copytree(_EXTERNAL_PLUGIN, source)  # building leaves files behind
    target = tmp_path_factory.mktemp("external")
    offline = ["--no-deps", "--no-build-isolation", "--no-index", "--quiet"]
    subprocess.run([sys.executable, "-m", "pip", "install", *offline, "--target", target, source], check=True)
    return target
