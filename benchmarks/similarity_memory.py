"""A million rows of 256 numbers at each of two places, compared by cka, svcca and procrustes: how much memory?

The rows, 1 GB a place, are written to a temporary folder as capture would write them, and compared as a suite compares
them: aligned, read together once and fed to all metrics, beside the same for shuffled rows. What is told is the
resident memory of the process at its highest, the interpreter and its libraries counted. The seconds are of one run,
whatever else the machine does. TMPDIR chooses where the folder is.
Run: `python benchmarks/similarity_memory.py [--rows 1000000]`.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import psutil
import torch
from measuring import Table, parser
from streaming import Peak, written

from harness.planning.cells import Cell
from harness.registry.plugin_manager import load_catalog
from harness.running.session import Session
from harness.stages import similarity
from harness.storage.store import Store

D = 256
METRICS = ("cka", "svcca", "procrustes")


def stored(folder: Path, n_rows: int) -> Store:
    store = Store(folder / "results", folder / "cache")
    for seed, place in enumerate("ab"):
        work = store.work_folder("capture", place)
        work.mkdir(parents=True)
        written(work, n_rows, D, seed)
        store.commit("capture", place, {"n_rows": n_rows, "width": D, "tokenizer_hash": "one"})
    return store


def compare(store: Store) -> list[dict[str, Any]]:
    """The table rows of all metrics."""
    session = Session(store, load_catalog(), torch.device("cpu"), "logs/x.txt", emit=lambda event: None)
    sides = {side: {"capture": side, "fit_capture": side, "max_norm_multiple": 10.0} for side in "ab"}
    calls = [{"name": name, "params": {}} for name in METRICS]
    cells = [Cell("similarity", call["name"], "x", "g", {"similarity": call, **sides}, {}) for call in calls]
    similarity.run(cells, session)
    records = [store.record(cell.key) for cell in cells]
    assert all(record and record.status == "done" for record in records), records
    return [{"similarity": cell.key, **row} for cell in cells for row in store.record(cell.key).rows]


def main() -> None:
    options = parser(__doc__, rounds=1)
    options.add_argument("--rows", type=int, default=1_000_000)
    arguments = options.parse_args()
    torch.set_num_threads(arguments.threads)
    with tempfile.TemporaryDirectory() as folder:
        store = stored(Path(folder), arguments.rows)
        before, peak = psutil.Process().memory_info().rss, Peak()
        peak.start()
        started = time.perf_counter()
        rows = compare(store)
        seconds = time.perf_counter() - started
        peak.done.set()
        peak.join()
    for row in rows:
        if row["metric"] in ("similarity", "null_shuffled_rows"):
            print(f"  {row['similarity']} {row['metric']} {row['value']:.6f}, n {row['n']}")
    Table(arguments).add(
        f"{', '.join(METRICS)} of {arguments.rows} rows of {D} at two places, from disk",
        ("harness.stages.similarity", seconds),
        note=f"resident at most {peak.rss_bytes / 1e9:.2f} GB, {before / 1e9:.2f} GB before",
    )


if __name__ == "__main__":
    main()
