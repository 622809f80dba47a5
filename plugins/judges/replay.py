"""A judge that says what another one has said: from a recording, which is a copy of the cache of answers.

The same requests get the same responses, so the same suite comes to the same scores, without the judge, its key or a
network. A request that is not in the recording is an error, as another judge would be. Failures are not recorded: where
the recorded run had some, its scores can't be replayed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import harness
from plugins.judges import ReplayConfig


class Replay:
    """Looks up what it is asked."""

    def __init__(self, config: ReplayConfig) -> None:
        self._recording = harness.Recording(config.path, config.of)
        self._path = config.path

    def choose(self, requests: Sequence[harness.Choose]) -> Iterator[tuple[float, ...]]:
        """The recorded log-probabilities."""
        return (tuple(self._find(request)) for request in requests)

    def generate(self, requests: Sequence[harness.Generate]) -> Iterator[str]:
        """The recorded answers."""
        return (self._find(request) for request in requests)

    def likelihood(self, requests: Sequence[harness.Likelihood]) -> Iterator[tuple[float, int]]:
        """The recorded log-probabilities and numbers of tokens."""
        for request in requests:
            total, n_tokens = self._find(request)
            yield total, n_tokens

    def embed(self, requests: Sequence[harness.EmbedText]) -> Iterator[tuple[float, ...]]:
        """The recorded embeddings."""
        return (tuple(self._find(request)) for request in requests)

    def _find(self, request: Any) -> Any:
        found = self._recording.find(request)
        if found is None:
            raise harness.PluginError(
                f"judge replay: {self._path!r} has no answer to a {type(request).__name__} request: {request!r:.200}. "
                "It was made by another suite, scorer or version; ask the judge itself, or take its own recording."
            )
        return found
