"""A judge that says what another one has said: from a recording, which is a copy of the cache of answers.

The same requests get the same responses, so the same suite comes to the same scores, without the judge, its key or a
network. A request that is not in the recording is an error, as another judge would be. What was refused for good is
recorded as that; failures that may pass are not: a run that ended with some is to be run again before it is replayed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import harness
from harness.plugins.judges import ReplayConfig


class Replay:
    """Looks up each request in a recording."""

    def __init__(self, config: ReplayConfig) -> None:
        self._recording = harness.Recording(config.path, config.of)
        self._path = config.path

    def choose(self, requests: Sequence[harness.Choose]) -> Iterator[tuple[float, ...] | harness.Failure]:
        """The recorded log-probabilities."""
        return map(self._numbers, requests)

    def generate(self, requests: Sequence[harness.Generate]) -> Iterator[str | harness.Failure]:
        """The recorded answers."""
        return (self._find(request) for request in requests)

    def likelihood(self, requests: Sequence[harness.Likelihood]) -> Iterator[tuple[float, int] | harness.Failure]:
        """The recorded log-probabilities and numbers of tokens."""
        return map(self._numbers, requests)

    def embed(self, requests: Sequence[harness.EmbedText]) -> Iterator[tuple[float, ...] | harness.Failure]:
        """The recorded embeddings."""
        return map(self._numbers, requests)

    def _numbers(self, request: Any) -> Any:
        """The recorded numbers as a tuple, which JSON does not have, or a `Failure`."""
        found = self._find(request)
        return found if isinstance(found, harness.Failure | harness.Bounded) else tuple(found)

    def _find(self, request: Any) -> Any:
        found = self._recording.find(request)
        if found is None:
            raise harness.PluginError(
                f"judge replay: {self._path!r} has no answer to a {type(request).__name__} request: {request!r:.200}. "
                "It was made by another suite, scorer or version; ask the judge itself, or take its own recording."
            )
        return found
