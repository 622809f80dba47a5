"""ITDA against SAEs: the tables and the plot of itda_vs_sae.md, from what `suite=itda_vs_sae_local` has left.

harness run suite=itda_vs_sae_local
python results/reference/itda_vs_sae.py results/itda_vs_sae_local
"""

from __future__ import annotations

import itertools
import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from harness.report.plots import styles_of
from harness.tables.matching import rivals

HERE = Path(__file__).parent
WIDTH = 576
L0_TARGETS = (20, 40, 80)
SITES = ("resid_post.9", "resid_post.19")
NAMES = {
    "topk_sae": "TopK SAE",
    "relu_sae": "ReLU SAE",
    "untrained_sae": "untrained SAE",
    "itda": "ITDA",
    "random_dictionary": "random rows",
    "kmeans": "k-means",
    "pca": "PCA",
}


def read(folder: Path) -> pd.DataFrame:
    """The leaderboard with a line's name, realised latents, the L0 it is meant for, and its seconds."""
    board = pd.read_csv(folder / "leaderboard.csv")
    # What wants more latents than there are rows was skipped.
    board = board[board["method"].isin(NAMES) & board["explained_variance"].notna()].copy()
    params = board["method_config"].map(json.loads)
    board["name"] = [
        NAMES[method] + (", mean removed" if given.get("centre") else "")
        for method, given in zip(board["method"], params, strict=True)
    ]
    # A dictionary of unit rows, and for SAEs an encoder of the same size and two biases; or the mean that was removed.
    per_latent = board["method"].map(lambda name: 2 * WIDTH + 1 if name.endswith("_sae") else WIDTH)
    has_mean = board["method"].str.endswith("_sae") | (board["method"] == "pca") | board["name"].str.endswith("removed")
    fixed = np.where(has_mean, WIDTH, 0)
    latents = ((board["parameters"] - fixed) / per_latent).round()
    board["latents"] = [given.get("n_components", m) for given, m in zip(params, latents, strict=True)]
    board["asked"] = [given.get("n_latents") for given in params]
    board["l0_target"] = [min(L0_TARGETS, key=lambda target: abs(np.log(l0 / target))) for l0 in board["l0"]]
    board["cpu_seconds_in_all"] = board["fit_cpu_seconds"] + board["capture_seconds"]
    return board


def best(board: pd.DataFrame, method: str, **where: object) -> pd.Series | None:
    """The line of a method that explains most, among those with these values."""
    chosen = board[board["method"] == method]
    for column, value in where.items():
        chosen = chosen[chosen[column] == value]
    return None if chosen.empty else chosen.loc[chosen["explained_variance"].idxmax()]


def with_interval(line: pd.Series, metric: str, digits: int = 3) -> str:
    low, high = line[f"{metric}_low"], line[f"{metric}_high"]
    if np.isnan(line[metric]):
        return "–"
    return f"{line[metric]:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


def budgets_table(board: pd.DataFrame, target: int) -> str:
    """By site and budget: each method's best line near one L0; † where it is not within 10 % of that."""
    lines = [
        "| site | tokens | method | latents | L0 | explained variance | CE increase | fit CPU s | with capture |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    near = board[board["l0_target"] == target]
    for site, budget in itertools.product(SITES, sorted(near["fit_tokens"].unique())):
        place = near[(near["site"] == site) & (near["fit_tokens"] == budget)]
        tops = [place.loc[of_name["explained_variance"].idxmax()] for _, of_name in place.groupby("name")]
        for line in sorted(tops, key=lambda line: -line["explained_variance"]):
            is_matched = len(rivals([line["l0"], target], [budget, budget])[0]) == 2
            l0 = f"{line['l0']:.1f}" + ("" if is_matched else " †")
            cells = [site, f"{budget:,}", line["name"], f"{line['latents']:,.0f}", l0]
            cells += [with_interval(line, "explained_variance"), with_interval(line, "ce_increase", 2)]
            cells += [f"{line[seconds]:.3g}" for seconds in ("fit_cpu_seconds", "cpu_seconds_in_all")]
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def short_table(board: pd.DataFrame) -> str:
    """By method: explained variance of its best line near L0 40 at both sites, with the least and the most L0 of these.

    The table of the README.
    """
    near = board[(board["l0_target"] == 40) & ~board["name"].str.startswith("untrained")]
    budgets = sorted(near["fit_tokens"].unique())
    lines = [
        f"| explained variance at `{SITES[0]}` / `.{SITES[1].split('.')[1]}` | {budgets[0]} tokens | "
        + " | ".join(f"{budget:,}" for budget in budgets[1:])
        + " | L0 | fit CPU seconds then |",
        "|---" * (len(budgets) + 3) + "|",
    ]
    tops = near.loc[near.groupby(["name", "site", "fit_tokens"])["explained_variance"].idxmax()]
    last = tops[tops["fit_tokens"] == budgets[-1]].groupby("name")["explained_variance"].max()
    for name in last.sort_values(ascending=False).index:
        own = tops[tops["name"] == name].set_index(["fit_tokens", "site"])
        values = own["explained_variance"].map(lambda value: f"{value:.3f}".removeprefix("0"))
        cells = [" / ".join(values.get((budget, site), "–") for site in SITES) for budget in budgets]
        cells = ["–" if set(cell) <= set("–/ ") else cell for cell in cells]
        seconds = [own.loc[(budgets[-1], site), "fit_cpu_seconds"] for site in SITES]
        seconds = " / ".join(f"{value:.0f}" if value >= 10 else f"{value:.2g}" for value in seconds)
        cells += [f"{own['l0'].min():.0f} to {own['l0'].max():.0f}", seconds]
        lines.append("| " + " | ".join([name, *cells]) + " |")
    return "\n".join(lines)


def plot(board: pd.DataFrame) -> Figure:
    """Explained variance and CE increase near L0 40 against tokens and seconds, the best line of each method."""
    shown = [name for name in dict.fromkeys(board["name"]) if not name.startswith("untrained")]
    styles = styles_of(shown)
    figure = Figure(figsize=(13, 6.4), layout="constrained")
    axes = figure.subplots(len(SITES), 4)
    panels = (
        ("fit_tokens", "explained_variance"),
        ("fit_cpu_seconds", "explained_variance"),
        ("cpu_seconds_in_all", "explained_variance"),
        ("fit_tokens", "ce_increase"),
    )
    near = board[board["l0_target"] == 40]
    for row, site in zip(axes, SITES, strict=True):
        for panel, (x, y) in zip(row, panels, strict=True):
            for name in shown:
                of_name = near[(near["name"] == name) & (near["site"] == site)]
                tops = of_name.loc[of_name.groupby("fit_tokens")["explained_variance"].idxmax()].sort_values(
                    "fit_tokens"
                )
                error = np.abs(tops[[f"{y}_low", f"{y}_high"]].to_numpy().T - tops[y].to_numpy())
                style = styles[name]
                panel.errorbar(tops[x], tops[y], error, color=style.colour, marker=style.marker, ms=5, lw=1, label=name)
            panel.set(xscale="log", xlabel=x.replace("_", " "), ylabel=f"{y.replace('_', ' ')}, {site}")
    figure.legend(*axes[0][0].get_legend_handles_labels(), loc="outside lower center", ncols=5, frameon=False)
    return figure


def main() -> None:
    board = read(Path(sys.argv[1]))
    board.to_csv(HERE / "itda_vs_sae.csv", index=False, float_format="%.5g")
    board = pd.read_csv(HERE / "itda_vs_sae.csv")  # pages say what the committed table says, to its last digit
    plot(board).savefig(HERE / "itda_vs_sae.svg")
    print(short_table(board))
    for target in L0_TARGETS:
        print(f"\n### L0 near {target}\n\n{budgets_table(board, target)}")


if __name__ == "__main__":
    main()
