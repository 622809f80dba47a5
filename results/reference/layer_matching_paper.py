"""Layer matching as Leask et al. 2025 publish it (arXiv 2505.17769, Table 1), beside what a run of the suite has found.

harness run suite=layer_matching_paper
python results/reference/layer_matching_paper.py results/layer_matching_paper

The published score counts each model with itself too: of five models, a fifth of it is for nothing. Beside it stands
what is left without these pairs. Its baselines are those that are named `*_itda_paper` here, and in-sample R².
"""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd

PUBLISHED = {
    "linear_regression in_sample": {"gpt2-small": 0.16, "gpt2-medium": 0.07},
    "svcca_itda_paper": {"gpt2-small": 0.50, "gpt2-medium": 0.44},
    "cka_itda_paper": {"gpt2-small": 0.69, "gpt2-medium": 0.61},
    "relative_itda_paper": {"gpt2-small": 0.87, "gpt2-medium": 0.78},
    "jaccard of itda_paper": {"gpt2-small": 0.88, "gpt2-medium": 0.89},
}


def table(folder: Path) -> str:
    """One line per family and similarity: both accuracies, the first beside the published one."""
    scores = pd.read_csv(folder / "task_scores.csv").query("task == 'layer_matching'")
    keys = ["family", "similarity", "similarity_config", "method", "method_config"]
    lines = [
        "| family | similarity | all pairs | published | cross pairs [95 % interval over models] |",
        "|---|---|---|---|---|",
    ]
    for (family, *subject), found in scores.groupby(keys, sort=False, dropna=False):
        by_metric = found.set_index("metric")
        name = _name(*subject)
        published = PUBLISHED.get(name, {}).get(family)
        cross, all_pairs = by_metric.loc["accuracy"], by_metric.loc["accuracy_all_pairs", "value"]
        ends = "" if pd.isna(cross["low"]) else f" [{cross['low']:.2f}, {cross['high']:.2f}]"
        cells = [family, name, f"{all_pairs:.2f}", "–" if published is None else f"{published:.2f}"]
        lines.append("| " + " | ".join([*cells, f"{cross['value']:.2f}{ends}"]) + " |")
    return "\n".join(lines)


def _name(similarity: str, config: str, method: object, method_config: object) -> str:
    """With the parameters that tell the suite's entries apart."""
    for value in ("in_sample", "gcv", "debiased", "biased"):
        if f'"{value}"' in config:
            return f"{similarity} {value}"
    centred = ", centred" if '"centre":true' in config else ""
    return f"{similarity} of {method}" if isinstance(method, str) else f"{similarity}{centred}"


if __name__ == "__main__":
    print(table(Path(sys.argv[1])))
