"""A real Slurm of two nodes on this machine: a controller, two daemons and munge."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import Self

_TOOLS = ("slurmctld", "slurmd", "sbatch", "munged")
_SECONDS_TO_START = 60
_CONFIG = """
ClusterName=test
SlurmctldHost=localhost
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CryptoType=crypto/munge
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
ReturnToService=2
KillWait=5
JobRequeue=1
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.%n.pid
SlurmdSpoolDir={folder}/spool.%n
StateSaveLocation={folder}/state
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.%n.log
SlurmctldPort={port}
SlurmdTimeout=20
SchedulerType=sched/backfill
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
JobAcctGatherType=jobacct_gather/none
NodeName=n[1-2] NodeHostname=localhost NodeAddr=127.0.0.1 Port=[{first}-{last}] CPUs=2 State=UNKNOWN
PartitionName=debug Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def why_no_slurm() -> str | None:
    """The reason why there can be no Slurm here; None if there can."""
    if missing := [tool for tool in _TOOLS if shutil.which(tool) is None]:
        return f"needs {', '.join(missing)}: apt-get install slurm-wlm munge"
    return None if os.geteuid() == 0 else "Slurm's daemons have to be started by root"


class SlurmCluster:
    """A cluster for the time of a `with` block; `SLURM_CONF=config` makes Slurm's tools use it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config = folder / "slurm.conf"

    def __enter__(self) -> Self:
        port = 20_000 + os.getpid() % 10_000 * 3
        (self.folder / "state").mkdir()
        self.config.write_text(_CONFIG.format(folder=self.folder, port=port, first=port + 1, last=port + 2))
        _start_munge()
        self.run("slurmctld")
        for node in ("n1", "n2"):
            self.run("slurmd", "-N", node)
        deadline = time.monotonic() + _SECONDS_TO_START
        while self.run("sinfo", "-h", "-t", "idle", "-o", "%D", may_fail=True).strip() != "2":
            assert time.monotonic() < deadline, (self.folder / "slurmctld.log").read_text()[-2000:]
            time.sleep(0.2)
        return self

    def __exit__(self, *_: object) -> None:
        for path in self.folder.glob("*.pid"):
            self.end(path)

    def end(self, path: Path) -> None:
        """End a daemon by the file with its process id, as when its node is taken away."""
        with suppress(ProcessLookupError, ValueError):
            os.kill(int(path.read_text()), signal.SIGKILL)

    def jobs(self) -> list[str]:
        """Lines of `squeue`, without jobs that are only being cleaned up."""
        lines = self.run("squeue", "-h", "-o", "%i %T").splitlines()
        return [line for line in lines if not line.endswith("COMPLETING")]

    def run(self, *command: str, may_fail: bool = False) -> str:
        environment = {**os.environ, "SLURM_CONF": str(self.config)}
        result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert may_fail or result.returncode == 0, result.stderr
        return result.stdout


def _start_munge() -> None:
    """Start munge, which vouches for users of one machine, unless it runs."""
    if subprocess.run(["munge", "-n"], capture_output=True, check=False).returncode == 0:
        return
    folders = [Path(folder) for folder in ("/run/munge", "/var/log/munge", "/var/lib/munge", "/etc/munge")]
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
        shutil.chown(folder, "munge", "munge")
    subprocess.run(["su", "munge", "-s", "/bin/sh", "-c", "munged"], check=True)
