"""Two million rows of 576 numbers, read from disk through fits: how much memory stays resident?

The rows, 4.6 GB, are written to a temporary folder as capture would write them. What is told is the resident memory of
the process at its highest, mapped files counted. The seconds are of one run, whatever else the machine does.
TMPDIR chooses where the folder is. Run: `python benchmarks/streaming.py [--rows 2000000]`.
"""

from __future__ import annotations

import tempfile
import threading
import time
from pathlib import Path

import pandas as pd
import psutil
import torch
from measuring import Table, parser

import harness
from harness.capturing.activations import Stream
from harness.fitting.together import fit_together
from harness.storage.activation_store import StoredActivations, write_shard

D, SHARD_ROWS, DOCUMENT_ROWS = 576, 65_536, 512
LEARNERS = {
    "pca": {"n_components": 64, "k": 32},
    "itda": {"k": 16, "max_atoms": 1024, "threshold": 0.5},
    "topk_sae": {"n_latents": 1024, "k": 32, "batch_rows": 2048, "passes": 1},
}


def written(folder: Path, n_rows: int, width: int = D, seed: int = 0) -> StoredActivations:
    """Rows of 32 sources, which have their own seed, and noise."""
    sources, generator = (torch.Generator().manual_seed(number) for number in (0, 1 + seed))
    mixing = torch.randn(32, width, generator=generator)
    names = []
    for number, start in enumerate(range(0, n_rows, SHARD_ROWS)):
        places = torch.arange(start, min(start + SHARD_ROWS, n_rows)).numpy()
        x = torch.randn(len(places), 32, generator=sources) @ mixing
        x += torch.randn(len(places), width, generator=generator)
        position = places % DOCUMENT_ROWS
        columns = {"window": position * 0, "position": position, "start": position, "end": position + 1}
        rows = pd.DataFrame({"document": (places // DOCUMENT_ROWS).astype(str), **columns, "special": False})
        write_shard(folder, number, x, harness.make_rows({name: rows[name] for name in rows}))
        names.append(f"shard-{number:05d}.safetensors")
    return StoredActivations(folder, {"n_rows": n_rows, "width": width, "files": {name: {} for name in names}})


class Peak(threading.Thread):
    """Looks at the resident memory twenty times a second."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.rss_bytes = 0
        self.done = threading.Event()

    def run(self) -> None:
        process = psutil.Process()
        while not self.done.wait(0.05):
            self.rss_bytes = max(self.rss_bytes, process.memory_info().rss)


def main() -> None:
    options = parser(__doc__, rounds=1)
    options.add_argument("--rows", type=int, default=2_000_000)
    arguments = options.parse_args()
    torch.set_num_threads(arguments.threads)
    with tempfile.TemporaryDirectory() as folder:
        activations = written(Path(folder), arguments.rows)
        for name, parameters in LEARNERS.items():
            stream = Stream(activations, torch.arange(arguments.rows), seed=0)
            learner, peak = harness.create("method", name, **parameters), Peak()
            peak.start()
            started = time.perf_counter()
            fitted = fit_together({name: learner}, stream, torch.device("cpu"))[name]
            seconds = time.perf_counter() - started
            peak.done.set()
            peak.join()
            assert fitted.decomposition is not None, fitted
            Table(arguments).add(
                f"{name} fit, {arguments.rows} rows of {D} from disk ({arguments.rows * D * 4e-9:.1f} GB)",
                ("harness.fitting.together", seconds),
                note=f"resident at most {peak.rss_bytes / 1e9:.2f} GB",
            )


if __name__ == "__main__":
    main()
