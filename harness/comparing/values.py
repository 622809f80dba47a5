"""Values of a similarity in the making: steps of its plugin's code, of which any may fail."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from harness.errors import Undefined
from harness.registry.isolation import isolated
from harness.storage.records import row


class Steps:
    """Runs a plugin's code up to the first step that fails; what that raised is kept for whoever asks for a result."""

    def __init__(self) -> None:
        self.stopped: BaseException | None = None

    def step(self, code: Callable[[], Any]) -> Any:
        """The result of the code; None, without running it, after a step that failed."""
        if self.stopped is not None:
            return None
        try:
            with isolated():
                return code()
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # sys.exit too
            self.stopped = error
            return None


class SimilarityValue(Steps):
    """A row of the similarity table in the making."""

    def __init__(self, name: str, n: int, higher_is_more_similar: bool | None) -> None:
        super().__init__()
        self.name = name
        self.n = n
        self._higher_is_more_similar = higher_is_more_similar

    def row(self, last_step: Callable[[], Any]) -> dict[str, Any]:
        """The row with the number that the last step gives; raises what has failed, unless it was an Undefined."""
        value, reason = self.step(lambda: float(last_step())), None
        if isinstance(self.stopped, Undefined):
            reason = self.stopped.reason
        elif self.stopped is not None:
            raise self.stopped
        elif not math.isfinite(value):
            value, reason = None, f"the metric returned {value}"
        return row("similarity", self.name, value, self.n, self._higher_is_more_similar, reason)
