"""The example distribution, installed by pip as a user would."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import harness

_USE = """
import json, pathlib, torch, harness
specs = {f"{s.kind}/{s.name}": s.summary for s in harness.catalog()}
x = torch.randn(64, 8, generator=torch.Generator().manual_seed(0))
fitted = harness.fit(harness.create("method", "acme_axes", k=8), x)
error = (fitted.decode(fitted.encode(x)) - x).abs().max().item()
norms = harness.create("similarity", "acme_norms")
fitted.save("saved")
same = torch.equal(harness.load("saved").encode(x).values, fitted.encode(x).values)
saved = pathlib.Path("saved", "decomposition.json")
names = [json.loads(saved.read_text())["class"]]
for older in ("acme_decompositions.axes:AxesDecomposition", "acme_decompositions.moved_since:AxesDecomposition"):
    saved.write_text(saved.read_text().replace(names[-1], older))
    assert type(harness.load("saved")) is type(fitted)
    names.append(older)
print(json.dumps({"specs": specs, "error": error, "same": norms(x, 2 * x), "loads": same, "class": names[0]}))
"""


def test_an_installed_plugin_is_listed_and_works(external_plugin_path: Path, tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(external_plugin_path)}
    finished = subprocess.run(
        [sys.executable, "-c", _USE], env=environment, cwd=tmp_path, capture_output=True, text=True
    )
    assert finished.returncode == 0, finished.stderr
    found = json.loads(finished.stdout)
    assert {"method/acme_axes", "similarity/acme_norms"} <= set(found["specs"])
    assert found["error"] < 1e-6
    assert abs(found["same"] - 1) < 1e-12
    assert found["loads"]
    assert found["class"] == "method/acme_axes:AxesDecomposition"


def test_it_leaves_this_environment_alone(external_plugin_path: Path) -> None:
    assert "acme_axes" not in {spec.name for spec in harness.catalog()}
