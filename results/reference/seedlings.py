"""The small language models of a suite: what they learnt from, how far they got, and the checksums of their weights.

harness run suite=similarity_benchmark
python results/reference/seedlings.py results/similarity_benchmark

Models that are in the cache are read; others are trained now.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from harness.plugins.models import SeedlingConfig
from harness.plugins.models.seedling import training_record
from harness.registry.parameters import build

HERE = Path(__file__).parent
NOT_PARAMETERS = ("model", "label", "family", "sites", "control_of")


def seedlings(suite: dict[str, Any]) -> pd.DataFrame:
    """One line per model; lists of seeds and steps are the suite's grids."""
    lines = []
    for entry in suite["models"]:
        if entry.get("model") != "seedling":
            continue
        given = {name: value for name, value in entry.items() if name not in NOT_PARAMETERS}
        grids = {name: value if isinstance(value, list) else [value] for name, value in given.items()}
        for point in pd.MultiIndex.from_product(list(grids.values())):
            config = build(SeedlingConfig, dict(zip(grids, point, strict=True)))
            lines.append({"family": entry["family"], **_line(config, training_record(config))})
    return pd.DataFrame(lines)


def _line(config: SeedlingConfig, record: dict[str, Any]) -> dict[str, Any]:
    return {
        **{name: getattr(config, name) for name in ("architecture", "n_layers", "width", "seed", "n_steps")},
        **{name: record[name] for name in ("step", "n_parameters", "tokens_seen")},
        **{name: round(record[name], 4) for name in ("validation_loss", "unigram_entropy", "nats_under_unigram")},
        **{name: record["machine"][name] for name in ("device", "threads", "seconds")},
        "weights_sha256": record["weights_sha256"],
    }


if __name__ == "__main__":
    found = seedlings(yaml.safe_load((Path(sys.argv[1]) / "suite.yaml").read_text(encoding="utf-8")))
    found.to_csv(HERE / "seedlings.csv", index=False)
    print(found.drop(columns="weights_sha256").to_string(index=False))
