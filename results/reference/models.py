"""How alike whole models are: the tables of models.md, from what `suite=across_families` has left.

harness run suite=across_families
python results/reference/models.py results/across_families
"""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd

from harness.report.plots import model_map

HERE = Path(__file__).parent
SHORT = {
    "smollm2-135m": "SmolLM2-135M",
    "minilm-l6": "MiniLM-L6",
    "seedling(n_steps=400)": "GPT-2, seed 0",
    "seedling(n_steps=400, seed=1)": "GPT-2, seed 1",
    "seedling(architecture=gpt_neox, n_steps=400)": "GPT-NeoX",
    "seedling(vocabulary=1024, n_steps=400)": "GPT-2, 1,024 tokens, seed 0",
    "seedling(vocabulary=1024, n_steps=400, seed=1)": "GPT-2, 1,024 tokens, seed 1",
    "seedling(n_steps=400, step=0)": "GPT-2, untrained",
}


def matrix(lines: pd.DataFrame) -> str:
    """A score of all models, each value with its null."""
    names = list(SHORT.values())
    found = {
        frozenset((SHORT[line["model"]], SHORT[line["model_b"]])): _cell(line) for line in lines.to_dict("records")
    }
    rows = [["", *names[1:]], ["---"] * len(names)]
    for place, name in enumerate(names[:-1]):
        rows.append([name, *(found[frozenset((name, b))] if b in names[place + 1 :] else "" for b in names[1:])])
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def _cell(line: dict[str, float]) -> str:
    return f"{line['value']:.2f} ({round(line['null'], 2) + 0.0:.2f})"  # no minus before a 0


def main() -> None:
    scores = pd.read_csv(Path(sys.argv[1]) / "model_similarities.csv")
    scores.to_csv(HERE / "models.csv", index=False, float_format="%.5g")
    scores = pd.read_csv(HERE / "models.csv")  # the page says what the committed table says, to its last digit
    for similarity, lines in scores[scores["score"] == "union"].groupby("similarity", sort=False):
        print(f"\n### {similarity}\n\n{matrix(lines)}")
    cka = scores[(scores["score"] == "union") & (scores["similarity"] == "cka")].replace(SHORT)
    model_map(cka, "Debiased CKA, all layers together").savefig(HERE / "models.svg")


if __name__ == "__main__":
    main()
