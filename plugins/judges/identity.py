"""Identities of judges: all that their answers depend on. Imports no torch."""

from __future__ import annotations

from typing import Any, Final

import harness
from harness.plugins.judges import LocalConfig, OpenAIHTTPConfig, ReplayConfig
from harness.plugins.models import HFConfig, PackagedConfig
from harness.plugins.models.planning import hf_identity, packaged_identity

PACKAGED: Final = "smollm2-135m"


def of_local(config: LocalConfig) -> dict[str, Any]:
    """The contents of the checkpoint, or its id on the hub, but not the device; and the version of generation, whose
    rounding differs with the batches.
    """
    if config.path is None:
        of_model = packaged_identity(PackagedConfig(PACKAGED, config.dtype))
    else:
        of_model = hf_identity(HFConfig(config.path, config.revision, config.dtype))
    return of_model | {harness.Generate.__name__: {"version": 2}}


def of_openai_http(config: OpenAIHTTPConfig) -> dict[str, Any]:
    """The address and the models that are asked, but not the key, the prices or the patience; and the version of
    choices, of which those that are not listed have bounds that are marked as such.
    """
    is_same = config.embedding_model in (None, config.model)
    embedding = {} if is_same else {harness.EmbedText.__name__: {"model": config.embedding_model}}
    choosing = {harness.Choose.__name__: {"version": 4}}
    return {"base_url": config.base_url, "model": config.model} | choosing | embedding


def of_replay(config: ReplayConfig) -> Any:
    """The identity of the recorded judge, wherever the file lies."""
    return harness.Recording(config.path, config.of).judge
