"""Peak memory of a stretch of work, in bytes."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

_STATUS = Path("/proc/self/status")
_RESET_PEAK = "5"


class PeakMemory:
    """Measures the peak memory from its creation on; `read` gives None where the system can't tell.

    On CUDA it is the memory of torch's allocator, elsewhere the resident memory of the process.
    """

    def __init__(self, device_type: str) -> None:
        self.on_cuda = device_type == "cuda"
        self.known = True
        if self.on_cuda:
            import torch

            torch.cuda.reset_peak_memory_stats()
        else:
            try:
                Path("/proc/self/clear_refs").write_text(_RESET_PEAK)
            except OSError:
                self.known = False
        self.start = self.read()

    def above_start(self) -> int | None:
        """The peak minus the memory held when the measurement began."""
        peak = self.read()
        return None if peak is None or self.start is None else peak - self.start

    def read(self) -> int | None:
        if self.on_cuda:
            import torch

            return int(torch.cuda.max_memory_allocated())
        if self.known:
            with suppress(OSError, StopIteration):
                line = next(line for line in _STATUS.read_text().splitlines() if line.startswith("VmHWM:"))
                return int(line.split()[1]) * 1024
        return None
