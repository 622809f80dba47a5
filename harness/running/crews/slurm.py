"""Workers in an array of Slurm jobs, started by plain `sbatch`; work and results travel through the folders alone."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

from harness.errors import ConfigError, HarnessError
from harness.planning.executor import SlurmExecutor
from harness.planning.plan import Plan
from harness.running.board import Board
from harness.running.crews.crew import thread_variables, work_command
from harness.storage.store import Store

_SECONDS_PER_LOOK = 15.0
_TOOLS = ("sbatch", "squeue", "scancel")
# Slurm warns a minute before it ends a job for its time. The shell then lets the worker give back its job, and has this
# task of the array queued again.
_SCRIPT = """#!/bin/sh
cd {folder} || exit 1
{exports}
{command} &
worker=$!
again() {{
  kill -USR2 $worker
  wait $worker
  scontrol requeue "${{SLURM_ARRAY_JOB_ID}}_${{SLURM_ARRAY_TASK_ID}}"
  exit
}}
trap again USR2
trap 'kill -TERM $worker; wait $worker; exit 143' TERM
wait $worker
"""


@dataclass
class SlurmCrew:
    """One array of workers, which is cancelled when the run ends."""

    plan: Plan
    store: Store
    board: Board
    executor: SlurmExecutor
    names: frozenset[str] = field(default=frozenset(), init=False)

    def __enter__(self) -> SlurmCrew:
        if missing := [tool for tool in _TOOLS if shutil.which(tool) is None]:
            raise ConfigError(
                f"executor: slurm needs {', '.join(missing)} on this machine. Run it where jobs are submitted, or use "
                "executor=local."
            )
        self.folder = self.store.results / "logs" / "slurm"
        self.folder.mkdir(parents=True, exist_ok=True)
        script = self.folder / "worker.sh"
        script.write_text(self._script())
        self.array = _answer(["sbatch", "--parsable", *self._options(), str(script)]).partition(";")[0].strip()
        self.looked_at = time.monotonic()
        return self

    def __exit__(self, *_: object) -> None:
        # They leave by themselves when nothing is left; those that are still queued have no use any more.
        subprocess.run(["scancel", self.array], check=False, capture_output=True)  # noqa: S603, S607  # fixed words

    def check(self) -> None:
        if time.monotonic() - self.looked_at < _SECONDS_PER_LOOK:
            return
        self.looked_at = time.monotonic()
        if not _answer(["squeue", "--noheader", f"--jobs={self.array}", "--format=%i"], may_fail=True).strip():
            raise HarnessError(
                f"all workers of Slurm's array {self.array} have ended, and jobs are left. What they said is in "
                f"{self.folder}. What is done stays done: run the suite again to go on."
            )

    def _options(self) -> list[str]:
        asked = {
            "job-name": f"harness-{self.store.results.name}",
            "array": f"0-{self.executor.workers - 1}",
            "cpus-per-task": self.executor.threads,
            "partition": self.executor.partition,
            "gres": self.executor.gres,
            "time": self.executor.time,
            "mem": self.executor.memory,
            "account": self.executor.account,
            "output": self.folder / "%A_%a.txt",
            "open-mode": "append",
            "signal": "B:USR2@60",
        }
        given = [f"--{name}={value}" for name, value in asked.items() if value is not None]
        return [*given, "--requeue", *self.executor.options]

    def _script(self) -> str:
        variables = {**thread_variables(self.executor.threads), "HARNESS_CACHE": str(self.store.cache)}
        return _SCRIPT.format(
            folder=shlex.quote(str(Path.cwd())),
            exports="\n".join(f"export {name}={shlex.quote(value)}" for name, value in variables.items()),
            command=shlex.join(work_command(self.plan, self.store, self.board)),
        )


def _answer(command: list[str], may_fail: bool = False) -> str:
    # Colours or columns of a user's own would be read as job numbers.
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("SQUEUE_", "SBATCH_"))}
    result = subprocess.run(command, check=False, capture_output=True, text=True, env=environment)  # noqa: S603
    if result.returncode and not may_fail:
        raise HarnessError(f"`{shlex.join(command)}` failed: {result.stderr.strip()}")
    return result.stdout
