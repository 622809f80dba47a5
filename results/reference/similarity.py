"""Which similarity deserves belief: the tables of similarity.md, from what `suite=similarity_benchmark` has left.

harness run suite=similarity_benchmark
python results/reference/similarity.py results/similarity_benchmark

Several folders, of parts of the suite, give a table each; tiers are those of a folder's own lines.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pandas as pd

HERE = Path(__file__).parent
SUBJECT = ["similarity", "similarity_config", "method", "method_config"]
DEFAULTS = {
    **{"kernel": "linear", "estimator": "biased", "bandwidth": 1.0, "estimate": "gcv", "form": "angular"},
    **{"side": "smaller", "variance": 0.99, "anchors": 300, "centre": False, "seed": 0, "n_seeds": 1},
    **{"compare": "cosine", "k": 10, "key": "token", "dissimilarity": "correlation", "n_rows": None, "by": "cosine"},
}


def read(folder: Path) -> pd.DataFrame:
    """The scores, each similarity with a name of its own."""
    scores = pd.read_csv(folder / "task_scores.csv")
    scores.insert(0, "part", folder.name)
    scores["name"] = [_name(*line) for line in scores[SUBJECT].itertuples(index=False, name=None)]
    return scores


def _name(similarity: str, config: str, method: object, method_config: object) -> str:
    """With what differs from the defaults."""
    given = {key: value for key, value in json.loads(config).items() if DEFAULTS.get(key, value) != value}
    if similarity == "rsa":
        given.pop("compare", None)
    written = similarity + (f"({', '.join(f'{key}={value}' for key, value in given.items())})" if given else "")
    if isinstance(method, str):
        of_method = json.loads(str(method_config))
        written += f" of {method}, threshold {of_method['threshold']:g}"
        written += ", mean removed" if of_method.get("centre") else ""
    return written


def with_interval(line: pd.Series, prefix: str = "", digits: int = 2) -> str:
    value, low, high = (line[f"{prefix}{end}" if end else prefix.rstrip("_") or "value"] for end in ("", "low", "high"))
    if pd.isna(value):
        return "–"
    return f"{value:.{digits}f}" + ("" if pd.isna(low) else f" [{low:.{digits}f}, {high:.{digits}f}]")


def matching_table(scores: pd.DataFrame, family: str) -> str:
    """Layer matching on one family, with the difference to its control and the score as it is published."""
    own = scores[(scores["task"] == "layer_matching") & (scores["family"] == family)]
    lines = [
        "| similarity | tier | accuracy, cross pairs | less the best | less the untrained control "
        "| all pairs, as published | reciprocal rank | layer error |",
        "|---|---|---|---|---|---|---|---|",
    ]
    wide = own.pivot_table(index="name", columns="metric", values="value", sort=False, dropna=False)
    main = own[own["metric"] == "accuracy"].sort_values("value", ascending=False, kind="stable")
    for line in (line for _, line in main.iterrows()):
        tier = "–" if pd.isna(line["tier"]) else f"{line['tier']:.0f}"
        cells = [line["name"], tier, with_interval(line)]
        cells += [with_interval(line, f"difference_to_{other}_") for other in ("best", "control")]
        cells += [
            f"{wide.loc[line['name'], name]:.2f}" for name in ("accuracy_all_pairs", "reciprocal_rank", "layer_error")
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def tasks_table(scores: pd.DataFrame) -> str:
    """Every task's main metric on every family but controls, a column each."""
    controls = set(scores.loc[scores["family"].str.endswith("-untrained"), "family"])
    main = scores[scores["is_main"] & ~scores["family"].isin(controls)]
    heads = main[["task", "family", "metric", "higher_is_better"]].drop_duplicates().to_dict("records")
    titles = [f"{h['task']}: {h['family']} ({h['metric']} {'↑' if h['higher_is_better'] else '↓'})" for h in heads]
    titles = [title.replace(" | ", " and ") for title in titles]
    lines = ["| similarity | " + " | ".join(titles) + " |", "|---" * (len(titles) + 1) + "|"]
    for name, own in main.groupby("name", sort=False):
        cells = []
        for head in heads:
            found = own[(own["task"] == head["task"]) & (own["family"] == head["family"])]
            cells.append("–" if found.empty else f"{found['value'].iloc[0]:.2f}")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def ranks_table(folder: Path) -> str:
    """Mean rank over all tasks, and what one comparison costs."""
    ranks = pd.read_csv(folder / "similarity_ranks.csv")
    lines = ["| similarity | mean rank | seconds of one comparison |", "|---|---|---|"]
    for line in ranks.to_dict("records"):
        name = _name(*(line[key] for key in SUBJECT))
        lines.append(f"| {name} | {line['mean_rank']:.2f} | {line['compare_seconds']:.3f} |")
    return "\n".join(lines)


def main() -> None:
    folders = [Path(argument) for argument in sys.argv[1:]]
    pd.concat(map(read, folders)).to_csv(HERE / "similarity.csv", index=False, float_format="%.5g")
    committed = pd.read_csv(HERE / "similarity.csv")  # pages say what it says, to its last digit
    for folder in folders:
        scores = committed[committed["part"] == folder.name]
        print(f"\n## {folder.name}")
        for family in scores.loc[scores["task"] == "layer_matching", "family"].unique():
            print(f"\n### Layer matching: {family}\n\n{matching_table(scores, family)}")
        print(f"\n### All tasks\n\n{tasks_table(scores)}\n\n### Ranks and costs\n\n{ranks_table(folder)}")


if __name__ == "__main__":
    main()
