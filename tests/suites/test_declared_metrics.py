"""An evaluation in a single file: what it declares is on the leaderboard, in plots, in W&B; what it doesn't is said."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from tests.support.wandb_files import media_of, records_of, summary_of

Cli = Callable[..., tuple[int, str, str]]
ACME = """
import harness

METRICS = (
    harness.Metric("acme_fit", "Acme fit (dB)", "how well acme hears it", True, ".2f", role="quality"),
    harness.Metric("acme_harm", "harm (utils)", "what acme suffers", False, ".1f", role="effect"),
    harness.Metric("acme_aside", "aside", "by the way", format=".1f"),
)

@harness.hookimpl
def harness_specs():
    return [harness.Spec("evaluation", "acme", 1, "what acme hears", "acme:Acme", metrics=METRICS)]

class Acme:
    def __init__(self, config): ...
    def evaluate(self, decomposition, context):
        heard = 20 + decomposition.n_latents / 100  # no share of anything: it is above 1
        found = {"acme_fit": heard, "acme_harm": -heard, "acme_aside": 0.5, "acme_secret": 7.0}
        return [harness.TableRow(name, value, context.n_rows) for name, value in found.items()]
"""


@pytest.mark.usefixtures("with_wandb")
def test_a_metric_of_one_file_is_wherever_metrics_are(harness_cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "acme.py").write_text(ACME)
    words = [
        *("suite=smoke", "plugin_files=[acme.py]", "evaluations=[reconstruction,acme]", "similarities=[]"),
        *("methods=[mean,{method: pca, n_components: [8, 16], k: 4}]", "scorers=[]", "tokens.interp=0"),
    ]
    code, printed, errors = harness_cli("run", *words)
    assert code == 0, errors
    results = tmp_path / "results" / "smoke"

    board = pd.read_csv(results / "leaderboard.csv")
    pca = board[(board["site"] == "resid_post.1") & board["method_config"].str.contains('"n_components":16')]
    assert pca["acme_fit"].tolist() == [20.16] and pca["acme_harm"].tolist() == [-20.16]
    assert "acme_aside" not in board and pca["explained_variance"].notna().all()
    _, shown, _ = harness_cli("leaderboard", *words, "--json")
    lines = json.loads(shown)
    assert [line["acme_fit"] for line in lines["methods"] if line["method"] == "mean"] == [20.0, 20.0]
    assert {line["acme_secret"] for line in lines["evaluations"]["acme"]} == {7.0}
    assert "Acme" in printed and "20.16" in printed

    page = (results / "report" / "index.html").read_text(encoding="utf-8")
    plots = [part.partition("</figcaption>")[0] for part in page.split("<figure>")[1:]]
    assert [plot.rpartition("<figcaption>")[2] for plot in plots[:5]] == [
        "1 − explained variance against L0",
        "Acme fit (dB) against L0",
        "1 − explained variance against fit seconds",
        "Acme fit (dB) against fit seconds",
        "harm (utils) against L0",
    ]
    assert ">Acme fit (dB)</text>" in plots[1] and 'title="how well acme hears it"' in page
    assert ">20.16<" in page and ">aside<" in page

    (run,) = (results / "wandb").glob("offline-run-*")
    summary = summary_of(run)
    assert summary["acme_fit/random_gpt2/resid_post_1/pca_n_components_16_k_4"] == 20.16
    assert summary["acme_harm/random_gpt2/resid_post_2/mean"] == -20.0
    assert not [name for name in summary if "acme_aside" in name or "acme_secret" in name]
    images = {item.nested_key[0] for item, _ in media_of(records_of(run), run, "image-file")}
    assert {"plots/acme_fit_by_l0/random_gpt2/resid_post_1", "plots/acme_harm_by_l0/random_gpt2/resid_post_2"} <= images

    (warning,) = [line for line in errors.splitlines() if "acme" in line and "warning" in line]
    assert "evaluation acme does not declare 'acme_secret'" in warning and "harness.Metric" in warning
