"""Specs of this plugin. Imported by every command, so it imports no torch."""

from dataclasses import dataclass

import harness


@dataclass
class AxesConfig:
    """Parameters of `acme_axes`."""

    k: int = 8
    """How many coordinates each row keeps."""

    def __post_init__(self) -> None:
        if self.k < 1:
            raise ValueError(f"k is {self.k}; give at least 1.")


@harness.hookimpl
def harness_specs() -> list[harness.PluginSpec]:
    """Raise a version whenever its results change: what was computed by the old one is then computed anew."""
    return [
        harness.MethodSpec(
            name="acme_axes",
            version=1,
            summary="The k largest coordinates of the centred row",
            config=AxesConfig,
            factory="acme_decompositions.axes:Axes",
            provides=("dictionary",),
        ),
        harness.SimilaritySpec(
            name="acme_norms",
            version=1,
            summary="Correlation of row norms",
            factory="acme_decompositions.norms:Norms",
        ),
    ]
