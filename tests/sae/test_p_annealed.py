"""The how-to's example of an SAE: short, on public names, and what the paper says (arXiv 2408.00113, section 3)."""

from __future__ import annotations

import ast
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

import harness
from harness.testing import check_method, raise_problems
from tests.support import literal
from tests.support.documents import blocks

HOWTO = Path(__file__).parents[2] / "docs" / "howto.md"
(SOURCE,) = [block.text for block in blocks(HOWTO) if block.file == "p_annealed.py"]


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    path = tmp_path / "p_annealed.py"
    path.write_text(SOURCE, encoding="utf-8")
    spec = importlib.util.spec_from_file_location("p_annealed", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setitem(sys.modules, "p_annealed", module)  # where saved fits are looked for
    return module


def test_it_takes_forty_lines_of_public_names() -> None:
    assert len(SOURCE.splitlines()) <= 40
    attributes = [node for node in ast.walk(ast.parse(SOURCE)) if isinstance(node, ast.Attribute)]
    used = {node.attr for node in attributes if isinstance(node.value, ast.Name) and node.value.id == "harness"}
    assert used and used <= {*harness.__all__}


def test_it_keeps_what_a_method_promises(module: ModuleType) -> None:
    findings = check_method(lambda: module.PAnnealed(module.Config(n_latents=32, passes=2, batch_rows=100)))
    raise_problems(findings)
    assert sum(finding.outcome == "holds" for finding in findings) >= 16


def test_a_smaller_p_leaves_the_size_of_the_penalty(module: ModuleType) -> None:
    x = literal.mixture(400)
    sae = module.PAnnealed(module.Config(n_latents=64, penalty=0.3, last_p=0.2, passes=1))
    sae.start(harness.Info(x.shape[1], len(x), 0, x.device, x.dtype, lambda: x.mean(dim=0)))
    sae.units.measure(x)
    y = sae.units.enter(x)
    codes = sae.encode(y)
    error = codes @ sae.weights.decoder - y
    at_first = error.square().sum(dim=1).mean() + 0.3 * codes.sum(dim=1).mean()
    for step in range(sae.schedule.n_steps + 1):
        sae.step = step
        assert torch.allclose(sae.loss(y, codes, error), at_first, rtol=1e-6)  # of the size's 1e-9
    assert sae.p == pytest.approx(0.2)


def test_it_explains_more_with_fewer_latents_than_at_a_p_of_1(module: ModuleType) -> None:
    x, held_out = literal.mixture(3000).float(), literal.mixture(1000, seed=1).float()

    def judged(last_p: float) -> tuple[float, float]:
        config = module.Config(n_latents=64, last_p=last_p, passes=15, batch_rows=128)
        sae = harness.fit(module.PAnnealed(config), x)
        codes = sae.encode(held_out)
        return float((codes.values > 0).double().sum(dim=1).mean()), float(
            (held_out - sae.decode(codes)).square().sum()
        )

    (l0, error), (l0_of_l1, error_of_l1) = judged(0.2), judged(1.0)
    assert l0 < 0.95 * l0_of_l1 and error < error_of_l1
