"""ITDA beside SAEs and controls of its own size, on two families: itda_families.csv, and the tables of its page.

harness run suite=itda_own_size
harness run suite=itda_own_size 'models=[{preset: gemma-3-270m, path: gemma-3-270m.gguf, sites: [resid_post.6, \
resid_post.12]}]' name=own_size_gemma methods.4.threshold=4.8e-4
python results/reference/itda_families.py results/itda_own_size results/own_size_gemma

Differences to ITDA are paired: document by document and seed by seed, with intervals as the leaderboard makes them.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from harness.tables.stats import Measured, interval, replicates

HERE = Path(__file__).parent
PLACE = ["model", "site", "fit_tokens"]
COLUMNS = [
    *("family", *PLACE, "method", "method_config", "name", "seeds", "latents", "l0", "tier", "matched_l0"),
    *("explained_variance", "explained_variance_low", "explained_variance_high", "explained_variance_documents"),
    *("ce_increase", "ce_increase_low", "ce_increase_high", "fit_cpu_seconds"),
    *("itda_ahead_by", "itda_ahead_by_low", "itda_ahead_by_high"),
]
NAMES = {
    "itda": "ITDA",
    "rows": "random rows of ITDA's size",
    "kmeans": "k-means of ITDA's size",
    "itda_paper": "ITDA as published",
    "topk_sae": "TopK SAE",
    "relu_sae": "ReLU SAE",
    "untrained_sae": "untrained SAE",
}
CENTRED = ", mean removed"
ITDA = NAMES["itda"] + CENTRED


def read(folder: Path) -> pd.DataFrame:
    """The lines of one family: its leaderboard with names, numbers of latents, and how far ITDA is ahead."""
    board = pd.read_csv(folder / "leaderboard.csv")
    board["name"] = [name_of(*line) for line in board[["method", "method_config"]].itertuples(index=False)]
    board = board[board["name"].notna() & board["explained_variance"].notna()]
    judged = pd.read_parquet(folder / "tables" / "reconstruction.parquet").query("status == 'done'")
    density = judged[judged["metric"] == "density"].groupby([*PLACE, "method_config"])["value"].mean()
    board = board.join(density.rename("density"), on=[*PLACE, "method_config"])
    board["latents"] = (board["l0"] / board["density"]).round()
    sums = {key: of_cells(folder, cells) for key, cells in judged.groupby([*PLACE, "method_config"])["cell"]}
    configs = board.set_index([*PLACE, "name"])["method_config"].to_dict()
    ahead = [paired(line, configs, sums) for _, line in board.iterrows()]
    board[["itda_ahead_by", "itda_ahead_by_low", "itda_ahead_by_high"]] = ahead
    return board[COLUMNS].sort_values([*PLACE, "explained_variance"], ascending=[True, True, True, False])


def name_of(method: str, config: str) -> str | None:
    """The name of a line; None for the methods that are bounds and no rivals."""
    params = json.loads(config)
    name = NAMES.get(params.get("source", method))
    return None if name is None else name + (CENTRED if params.get("centre") else "")


def of_cells(folder: Path, cells: pd.Series) -> Measured:
    """Explained variance as sums by document, one row a seed."""
    documents = [sums_of(folder, cell) for cell in dict.fromkeys(cells)]
    return Measured(*(np.array([own[side] for own in documents]) for side in ("numerator", "denominator")))


def sums_of(folder: Path, cell: str) -> Mapping[str, list[float]]:
    record = json.loads((folder / "cells" / cell[:2] / f"{cell}.json").read_text(encoding="utf-8"))
    return next(row["documents"] for row in record["rows"] if row["metric"] == "explained_variance")


def paired(line: pd.Series, configs: Mapping[Any, str], sums: Mapping[Any, Measured]) -> tuple[float, float, float]:
    """Explained variance of ITDA less that of the line, with its interval.

    ITDA as it is centred in the line where the line is of ITDA's size, else ITDA with the mean removed.
    """
    place = tuple(line[PLACE])
    is_sized = line["method"] == "sized_baseline"
    wanted = NAMES["itda"] + (CENTRED if line["name"].endswith(CENTRED) else "") if is_sized else ITDA
    config = configs[*place, wanted]
    itda, own = sums[*place, config], sums[*place, line["method_config"]]
    if config == line["method_config"]:
        return (np.nan,) * 3
    np.testing.assert_allclose(itda.denominators, own.denominators, rtol=1e-9)
    ahead = Measured(itda.numerators - own.numerators, itda.denominators)
    (found,) = replicates([ahead])
    assert found is not None, "a difference needs two seeds and ten documents"
    return (ahead.value, *interval(found))


def tables(board: pd.DataFrame) -> Iterator[str]:
    """A table for each model and site: all lines, the best of each budget first."""
    for (model, site), lines in board.groupby(["model", "site"], sort=False):
        yield f"### {model}, {site}\n"
        yield "| tokens | method | latents | L0 | explained variance | ITDA ahead by | fit CPU s |"
        yield "|---|---|---|---|---|---|---|"
        for _, line in lines.iterrows():
            cells = [f"{line['fit_tokens']:,}", line["name"], f"{line['latents']:,.0f}", f"{line['l0']:.1f}"]
            cells += [with_interval(line, name) for name in ("explained_variance", "itda_ahead_by")]
            yield "| " + " | ".join([*cells, f"{line['fit_cpu_seconds']:.3g}"]) + " |"
        yield ""


def with_interval(line: pd.Series, name: str) -> str:
    if np.isnan(line[name]):
        return "–"
    return f"{line[name]:z.3f} [{line[f'{name}_low']:z.3f}, {line[f'{name}_high']:z.3f}]"


def short_table(board: pd.DataFrame) -> str:
    """By method: explained variance from each budget at each site, the best of the largest budget first.

    The second table of the README; controls have the mean removed there.
    """
    board = board[board["name"].str.endswith(CENTRED) | (board["method"] != "sized_baseline")]
    places = list(dict.fromkeys(board[["model", "site"]].itertuples(index=False, name=None)))
    budgets = sorted(board["fit_tokens"].unique())
    headings = [f"from {', '.join(f'{budget:,}' for budget in budgets)} tokens", *(" ".join(place) for place in places)]
    lines = ["| " + " | ".join([*headings, "L0"]) + " |", "|---" * (len(headings) + 1) + "|"]
    last = board[board["fit_tokens"] == budgets[-1]].groupby("name")["explained_variance"].mean()
    for name in last.sort_values(ascending=False).index:
        own = board[board["name"] == name]
        values = own.set_index(["model", "site", "fit_tokens"])["explained_variance"]
        written = [[f"{values[*place, budget]:.3f}".removeprefix("0") for budget in budgets] for place in places]
        l0 = f"{own['l0'].min():.0f} to {own['l0'].max():.0f}"
        lines.append("| " + " | ".join([name, *map(" / ".join, written), l0]) + " |")
    return "\n".join(lines)


def main() -> None:
    path = HERE / "itda_families.csv"
    pd.concat([read(Path(folder)) for folder in sys.argv[1:]]).to_csv(path, index=False, float_format="%.5g")
    board = pd.read_csv(path)  # pages say what the committed table says, to its last digit
    print(short_table(board), *tables(board), sep="\n")


if __name__ == "__main__":
    main()
