"""The files of a pretrained SAE on the hub. Imports no torch."""

from __future__ import annotations

from pathlib import Path

import harness
from harness.plugins.methods.sae import PretrainedSAEConfig

CONFIG_FILE = "cfg.json"
WEIGHTS_FILE = "sae_weights.safetensors"


def folder_of(config: PretrainedSAEConfig, newest: bool) -> Path:
    """The folder in the hub's cache that has the config and the weights, which are fetched if they are not there.

    Args:
        config: names repository, folder and revision.
        newest: fetch them anew where the hub has others under these names. A plan does, as its keys depend on what they
            hold; workers read what was there for the plan.
    """
    try:
        from huggingface_hub import hf_hub_download, try_to_load_from_cache  # a machine without it can do all else
    except ImportError as error:
        raise harness.ConfigError(f"pretrained_sae: {error}. Run: pip install huggingface_hub") from error

    def fetch(name: str) -> Path:
        path = f"{config.sae_id}/{name}"
        cached = None if newest else try_to_load_from_cache(str(config.release), path, revision=config.revision)
        if isinstance(cached, str):
            return Path(cached)
        return Path(hf_hub_download(str(config.release), path, revision=config.revision))

    try:
        folder = fetch(CONFIG_FILE).parent
        if fetch(WEIGHTS_FILE).parent != folder:  # the branch has moved in between
            folder = fetch(CONFIG_FILE).parent
    except (OSError, ValueError) as error:  # no network, no such repository, folder or revision
        raise harness.ConfigError(
            f"pretrained_sae: the hub did not give {config.sae_id!r} of {config.release!r}: {error}\n"
            "Check release (a repository such as owner/name, not a name from SAELens's own list), sae_id and revision, "
            "and the connection or HF_HUB_OFFLINE; or give the folder of the SAE as path."
        ) from error
    return folder
