"""The campaigns in a short form, a few trials of each; in a long form, for as long as is asked, with any seed.

`make test-all FAULT_SEED=7 FAULT_MINUTES=4` chooses; `python -m tests.faults` runs pieces and keeps the figures.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.faults.campaign import Campaign
from tests.faults.command_lines import CommandLines
from tests.faults.damaged_files import DamagedFiles
from tests.faults.kills import Kills
from tests.faults.limits import Limits
from tests.faults.reads import DamagedReads
from tests.faults.subject import Subject
from tests.faults.trial import Trial

_SEED = int(os.environ.get("FAULT_SEED", "0"))
_MINUTES = float(os.environ.get("FAULT_MINUTES", "1"))
Trials = Callable[[int], Iterator[tuple[int, list[Trial]]]]


@pytest.fixture
def campaigns(whole: Subject, scratch: Path, popen: type[subprocess.Popen]) -> dict[str, Trials]:
    return {
        "damage": lambda seed: DamagedFiles(whole, scratch / "damage").trials(seed),
        "reads": lambda seed: DamagedReads(whole, scratch / "reads").trials(seed),
        "kills": lambda seed: Kills(whole, scratch / "kills", popen, max_kills=3).trials(seed),
        "lines": lambda seed: CommandLines(whole.copy_to(scratch / "lines")).trials(seed),
        "limits": lambda seed: Limits(whole, scratch / "limits", popen, n_runs=3).trials(seed),
    }


def _assert_well(campaign: Campaign, n: int) -> None:
    assert not campaign.bad, "\n".join(f"{number}: {trial}" for number, trial in campaign.bad)
    assert sum(sum(counts.values()) for counts in campaign.counts.values()) >= n


@pytest.mark.parametrize(("name", "n"), [("damage", 2), ("kills", 1), ("lines", 60), ("limits", 2)])
def test_a_few_faults(campaigns: dict[str, Trials], name: str, n: int) -> None:
    campaign = Campaign(name, campaigns[name](0))
    campaign.run(n=n)
    _assert_well(campaign, n // 2)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["reads", "damage", "kills", "lines", "limits"])
def test_many_faults(campaigns: dict[str, Trials], name: str) -> None:
    campaign = Campaign(name, campaigns[name](_SEED))
    campaign.run(60 * _MINUTES)
    _assert_well(campaign, 1)
