"""Runs campaigns of faults in pieces: python -m tests.faults --seed 1 --minutes 8 --only reads,kills

Figures are added to results/reference/faults.csv; a further call with the same seed goes on where the last one ended.
What did not end well is printed, with the number of its trial: --first NUMBER --trials 1 repeats it.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

from tests.faults.campaign import Campaign, add, next_trial, read
from tests.faults.command_lines import CommandLines
from tests.faults.damaged_files import DamagedFiles
from tests.faults.kills import Kills
from tests.faults.limits import Limits
from tests.faults.reads import DamagedReads
from tests.faults.subject import Subject, made
from tests.faults.trial import Trial
from tests.support.slurm import SlurmCluster, why_no_slurm
from tests.support.warm import BEGIN, warm

ROOT = Path(__file__).parents[2]
FIGURES = ROOT / "results" / "reference" / "faults.csv"
Start = Callable[[int, int], Iterator[tuple[int, list[Trial]]]]


def main() -> int:
    options = _options()
    warnings.simplefilter("ignore")
    commit, n_bad = _commit(), 0
    memory = Path("/dev/shm")
    ordinary = subprocess.Popen
    with (
        ExitStack() as clusters,
        tempfile.TemporaryDirectory(prefix="faults-", dir=memory if memory.is_dir() else None) as scratch,
        warm() as popen,
    ):
        os.environ[BEGIN] = "tests.faults.inside"
        subprocess.Popen = popen  # type: ignore[misc]
        whole = made(Path(scratch) / "whole")
        campaigns = _campaigns(whole, Path(scratch), popen) | _far(whole, Path(scratch), ordinary, clusters)
        names = options.only.split(",")
        for name in names:
            known = next_trial(read(options.figures), name, options.seed, commit)
            first = known if options.first is None else options.first
            campaign = Campaign(name, campaigns[name](options.seed, first))
            campaign.run(60 * options.minutes / len(names), first + options.trials)
            for number, trial in campaign.bad:
                print(f"{name} {number}: {trial.verdict}: {trial.kind}: {trial.how}\n    {trial.detail}", flush=True)
            if options.first is None:
                add(options.figures, campaign.lines(options.seed, commit))
            n = sum(sum(counts.values()) for counts in campaign.counts.values())
            n_bad += len(campaign.bad)
            print(f"{name}: {n} faults, {len(campaign.bad)} of them not well ended; {campaign.cpu_seconds:.0f} CPU s")
    return int(n_bad > 0)


def _campaigns(whole: Subject, scratch: Path, popen: type[subprocess.Popen]) -> dict[str, Start]:
    return {
        "damage": lambda seed, first: DamagedFiles(whole, scratch / "damage").trials(seed, first),
        "reads": lambda seed, first: DamagedReads(whole, scratch / "reads").trials(seed, first),
        "kills": lambda seed, first: Kills(whole, scratch / "kills", popen).trials(seed, first),
        "lines": lambda seed, first: CommandLines(whole.copy_to(scratch / "lines")).trials(seed, first),
        "limits": lambda seed, first: Limits(whole, scratch / "limits", popen).trials(seed, first),
    }


def _far(whole: Subject, scratch: Path, popen: type[subprocess.Popen], clusters: ExitStack) -> dict[str, Start]:
    """Kills where workers are elsewhere: whole processes, each of which takes seconds to start."""

    def slurm(seed: int, first: int) -> Iterator[tuple[int, list[Trial]]]:
        if why := why_no_slurm():
            sys.exit(f"slurm {why}")
        (scratch / "cluster").mkdir()
        cluster = clusters.enter_context(SlurmCluster(scratch / "cluster"))
        environment = {"SLURM_CONF": str(cluster.config)}
        return Kills(whole, scratch / "slurm", popen, "slurm", environment).trials(seed, first)

    return {"ray": lambda *from_: Kills(whole, scratch / "ray", popen, "ray").trials(*from_), "slurm": slurm}


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=8.0, help="shared evenly by the campaigns")
    parser.add_argument("--only", default="reads,damage,kills,lines,limits", help="some of these, of ray and slurm")
    parser.add_argument("--first", type=int, help="number of the first trial; nothing is added to the figures then")
    parser.add_argument("--trials", type=float, default=float("inf"))
    parser.add_argument("--figures", type=Path, default=FIGURES)
    return parser.parse_args()


def _commit() -> str:
    """The last commit that changed what is tried or how; "-dirty" where it has been changed since."""
    code = ("--", "harness", "plugins", "conf", "tests")
    commit, changes = (
        subprocess.run(
            ["git", "-C", str(ROOT), *words, *code], capture_output=True, text=True, check=False
        ).stdout.strip()
        for words in (("log", "-1", "--format=%h"), ("status", "--porcelain"))
    )
    return f"{commit}-dirty" if changes else commit


if __name__ == "__main__":
    os.environ["OMP_NUM_THREADS"] = "1"
    sys.exit(main())
