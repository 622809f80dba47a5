"""Whose latents can be understood: the tables of autointerp.md, from what `suite=autointerp_local` has left.

harness run suite=autointerp_local
python results/reference/autointerp.py results/autointerp_local ...

Folders of further runs over the same suite, as with a judge, add their scorers.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pandas as pd

HERE = Path(__file__).parent


def read(folders: list[Path]) -> pd.DataFrame:
    """One line for each model, method and scorer."""
    lines = pd.concat([pd.read_csv(folder / "interpretability.csv").assign(part=folder.name) for folder in folders])
    lines["name"] = [_name(*line) for line in lines[["scorer", "scorer_config"]].itertuples(index=False, name=None)]
    return lines.drop_duplicates(["model", "site", "method", "name", "metric"])


def _name(scorer: str, config: str) -> str:
    """With its silent windows, where they are not drawn at random."""
    negatives = json.loads(config).get("negatives", "random")
    return scorer if negatives == "random" else f"{scorer} ({negatives})"


def ends(line: pd.Series, name: str) -> str:
    """A value with its interval."""
    if pd.isna(line[name]):
        return "–"
    low, high = ("low", "high") if name == "value" else (f"{name}_low", f"{name}_high")
    around = "" if pd.isna(line[low]) else f" [{line[low]:z.2f}, {line[high]:z.2f}]"
    return f"{line[name]:z.2f}{around}"


def scorer_table(lines: pd.DataFrame) -> str:
    """One scorer: a line for each model and method."""
    head = ["model", "method", "mean over latents", "over activations", "another's explanation", "lift over the floor"]
    rows = [
        [
            line["model"],
            line["method"],
            ends(line, "value"),
            ends(line, "density_weighted"),
            ends(line, "random_explanation"),
            ends(line, "lift"),
            f"{line['n_latents']:.0f}",
            f"{line['n_undefined']:.0f}",
        ]
        for _, line in lines.iterrows()
    ]
    heads = [*head, "latents", "undefined"]
    return "\n".join(["| " + " | ".join(row) + " |" for row in (heads, ["---"] * len(heads), *rows)])


def main() -> None:
    lines = read([Path(argument) for argument in sys.argv[1:]])
    lines.drop(columns=["part"]).to_csv(HERE / "autointerp.csv", index=False, float_format="%.5g")
    lines = pd.read_csv(HERE / "autointerp.csv")  # the page says what the committed table says, to its last digit
    for (name, metric), own in lines.groupby(["name", "metric"], sort=False):
        print(f"\n### {name}: {metric}, chance {own['chance'].iloc[0]:g}\n\n{scorer_table(own)}")


if __name__ == "__main__":
    main()
