"""How alike whole models are: the tables of models.md, from what `suite=across_families` has left on draws of texts.

python results/reference/models.py draw 5 texts  # parts of the Wikipedia texts, no document in two of them
harness run suite=across_families name=draw_0 "corpus={corpus: files, paths: [texts/0.jsonl]}"  # and so on
python results/reference/models.py results/draw_{0,1,2,3,4}

Values are means over draws, with Student's 95 % intervals: draws share no document, so they differ as any others would.
Fits are read from the cache of the runs (HARNESS_CACHE).
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.special import stdtrit

import harness
from harness.report.plots import model_map
from harness.storage.store import Store

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
PAIR = ["model", "model_b"]
LINE = ["similarity", "similarity_config", "method", "method_config", "fit_tokens", "score", *PAIR]
WITH_INTERVALS = ["value", "corrected"]
MEANS = ["null", "rows", "atoms", "atoms_b", "candidates", "candidates_b"]
FIT = ["model", "site"]
ROUNDING = 1e-12
"""Half of an interval below which draws agree; how others would vary, they then do not show."""


def draw(n: int, folder: Path) -> None:
    """Deal the packaged texts out to files, in their order, which is random."""
    folder.mkdir(parents=True, exist_ok=True)
    documents = list(harness.create("corpus", "packaged").documents())
    for number in range(n):
        lines = (json.dumps({"text": document.text}) for document in documents[number::n])
        (folder / f"{number}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


def read(folder: Path) -> pd.DataFrame:
    """The scores of one draw; of unions besides the corrected index, and the numbers of atoms and of candidates."""
    scores = pd.read_csv(folder / "model_similarities.csv")
    table = pd.read_csv(folder / "tables" / "similarity.csv", low_memory=False)
    whole = table[table["site"].str.startswith("all ").fillna(False)].assign(score="union")
    # Both tables have a pair once, either way round; all similarities here are symmetric.
    scores, whole = (lines.assign(pair=lines[PAIR].apply(frozenset, axis=1)) for lines in (scores, whole))
    keys = ["similarity", "score", "pair"]
    for name, metric, column in (("corrected", "corrected", "value"), ("rows", "similarity", "n")):
        found = whole[whole["metric"] == metric].set_index(keys)[column].rename(name)
        scores = scores.join(found, on=keys)
    sizes = sizes_of_unions(folder)
    is_of_fits = scores["method"].notna() & (scores["score"] == "union")
    for side, model in (("", "model"), ("_b", "model_b")):
        for name in ("atoms", "candidates"):
            scores[f"{name}{side}"] = scores[model].map(sizes[name]).where(is_of_fits)
    return scores


def sizes_of_unions(folder: Path) -> pd.DataFrame:
    """The numbers of tokens that are atoms at any site of a model, and of those that could have become one."""
    sizes = {}
    for model, fits in of_fits(folder).groupby("model")["fit"]:
        tables = {name: pd.concat([getattr(fit, name) for fit in fits]) for name in ("atoms", "candidates")}
        sizes[model] = {name: len(table.drop_duplicates()) for name, table in tables.items()}
    return pd.DataFrame.from_dict(sizes, orient="index")


def of_fits(folder: Path) -> pd.DataFrame:
    """The fits of one draw, each with its place."""
    cost = pd.read_csv(folder / "tables" / "cost.csv", low_memory=False)
    fits, store = cost[cost["metric"] == "fit_seconds"][[*FIT, "cell"]], Store.of(folder)
    return fits.assign(fit=[harness.load(store.artefact("fit", cell)) for cell in fits["cell"]]).drop(columns="cell")


def read_fits(folder: Path) -> pd.DataFrame:
    """L0, explained variance and numbers of atoms and of candidates of each fit of one draw."""
    found = pd.read_csv(folder / "tables" / "reconstruction.csv", low_memory=False)
    wanted = found[found["metric"].isin(["l0", "explained_variance"])]
    wide = wanted.pivot_table(index=FIT, columns="metric", values="value", sort=False).reset_index()
    fits = of_fits(folder)
    counts = {name: [len(getattr(fit, name)) for fit in fits["fit"]] for name in ("atoms", "candidates")}
    return wide.merge(fits.assign(**counts).drop(columns="fit"), on=FIT)


def over_draws(draws: list[pd.DataFrame], keys: list[str], with_intervals: list[str], means: list[str]) -> pd.DataFrame:
    """Means over draws with Student's intervals: no mean where a draw has no value, no interval where all agree."""
    grouped = pd.concat(draws).groupby(keys, sort=False, dropna=False)
    names = [*with_intervals, *means]
    columns = {name: grouped[name].agg(lambda own: own.mean(skipna=False)).to_numpy() for name in names}
    for name in with_intervals:
        deviation = grouped[name].agg(lambda own: own.std(ddof=1, skipna=False)).to_numpy()
        half = stdtrit(len(draws) - 1, 0.975) * deviation / np.sqrt(len(draws))
        half[half < ROUNDING] = np.nan
        low, high = ("low", "high") if name == "value" else (f"{name}_low", f"{name}_high")
        columns |= {low: columns[name] - half, high: columns[name] + half}
    columns |= {name: grouped[name].first().to_numpy() for name in ("higher_is_better", "error") if name in draws[0]}
    places = pd.concat(draws)[keys].drop_duplicates(ignore_index=True)
    return places.assign(**columns, draws=len(draws))


def matrix(lines: pd.DataFrame, column: str = "value") -> str:
    """A score of all models, each value with half its interval, and with its null in parentheses."""
    names = list(SHORT.values())
    found = {
        frozenset((SHORT[line["model"]], SHORT[line["model_b"]])): _cell(line, column)
        for line in lines.to_dict("records")
    }
    rows = [["", *names[1:]], ["---"] * len(names)]
    for place, name in enumerate(names[:-1]):
        rows.append([name, *(found[frozenset((name, b))] if b in names[place + 1 :] else "" for b in names[1:])])
    return _table(rows)


def _cell(line: dict[str, float], column: str) -> str:
    if pd.isna(line[column]):
        return "–"
    half = line[column] - line["low" if column == "value" else f"{column}_low"]
    around = "" if pd.isna(half) else f" ± {half:.2f}"
    null = f" ({line['null']:z.2f})" if column == "value" else ""
    return f"{line[column]:z.2f}{around}{null}"


def fits_table(fits: pd.DataFrame) -> str:
    """The fits of each model: one line for all of its sites, in their order."""
    head = ["model", "sites", "atoms", "candidates", "L0", "explained variance"]
    rows = [head, ["---"] * len(head)]
    for model, own in fits.groupby("model", sort=False):
        layers = ", ".join(site.rpartition(".")[2] for site in own["site"])
        numbers = [
            ", ".join(f"{value:{form}}" for value in own[name])
            for name, form in (("atoms", ",.0f"), ("candidates", ",.0f"), ("l0", ".1f"), ("explained_variance", ".2f"))
        ]
        rows.append([SHORT[model], layers, *(number.replace(", ", " / ") for number in numbers)])
    return _table(rows)


def unions_table(scores: pd.DataFrame) -> str:
    """Atoms and candidates of each model's union."""
    own = scores[scores["atoms"].notna()]
    sides = [own[["model", "atoms", "candidates"]], own[["model_b", "atoms_b", "candidates_b"]]]
    sizes = pd.concat([side.set_axis(["model", "atoms", "candidates"], axis=1) for side in sides])
    sizes = sizes.drop_duplicates("model").set_index("model").loc[list(SHORT)]
    rows = [
        [SHORT[str(model)], f"{line['atoms']:,.0f}", f"{line['candidates']:,.0f}"] for model, line in sizes.iterrows()
    ]
    return _table([["model", "atoms at any layer", "candidates"], ["---"] * 3, *rows])


def _table(rows: list[list[str]]) -> str:
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def main() -> None:
    if sys.argv[1] == "draw":
        draw(int(sys.argv[2]), Path(sys.argv[3]))
        return
    folders = [Path(argument) for argument in sys.argv[1:]]
    scores = over_draws([read(folder) for folder in folders], LINE, WITH_INTERVALS, MEANS)
    fits = over_draws(
        [read_fits(folder) for folder in folders], FIT, ["l0", "explained_variance"], ["atoms", "candidates"]
    )
    for name, table in (("models", scores), ("models_fits", fits)):
        table.to_csv(HERE / f"{name}.csv", index=False, float_format="%.5g")
    # The page says what the committed tables say, to their last digit.
    scores, fits = (pd.read_csv(HERE / f"{name}.csv") for name in ("models", "models_fits"))
    unions = scores[scores["score"] == "union"]
    print(f"\n### Fits\n\n{fits_table(fits)}\n\n{unions_table(unions)}")
    for similarity, lines in unions.groupby("similarity", sort=False):
        print(f"\n### {similarity}\n\n{matrix(lines)}")
        if lines["corrected"].notna().any():
            print(f"\n### {similarity}, corrected\n\n{matrix(lines, 'corrected')}")
    cka = unions[unions["similarity"] == "cka"].replace(SHORT)
    model_map(cka, "Debiased CKA, all layers together").savefig(HERE / "models.svg")


if __name__ == "__main__":
    main()
