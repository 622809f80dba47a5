"""A machine without scikit-learn: what needs it says what to do, and all else runs."""

from __future__ import annotations

import subprocess
import sys
import textwrap

CODE = """
    import sys
    sys.modules["sklearn"] = sys.modules["sklearn.linear_model"] = None
    import torch, harness
    x, documents = torch.randn(100, 4), torch.arange(100)
    fits = {"itda": {"k": 2, "max_atoms": 20}, "kmeans": {"k": 2, "n_latents": 20}, "ica": {"n_components": 2}}
    for name, parameters in fits.items():
        try:
            harness.fit(harness.create("method", name, **parameters), x)
        except harness.ConfigError as error:
            print(error)
    identity = harness.fit(harness.create("method", "identity"), x)
    context = harness.context_of(x, None, documents, [{"topic": "ab"[i % 2]} for i in range(100)])
    try:
        harness.create("evaluation", "sparse_probing").evaluate(identity, context)
    except harness.ConfigError as error:
        print(error)
"""


def test_who_needs_it_says_so_and_all_else_runs() -> None:
    command = [sys.executable, "-W", "ignore", "-c", textwrap.dedent(CODE)]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert told[:2] == [f"{name} needs scikit-learn: pip install scikit-learn." for name in ("kmeans", "ica")]
    assert len(told) == 3 and "sparse_probing" in told[2] and "pip install scikit-learn" in told[2]
