"""The parameters that every SAE has. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(kw_only=True)
class SAEConfig:
    """The size of an SAE, and how long and how fast it trains."""

    n_latents: int
    """Number of latents in the dictionary."""
    passes: int | None = None
    """Number of passes over the rows; null follows from the number of rows."""
    batch_rows: int | None = None
    """Rows of one step; null follows from the number of rows."""
    learning_rate: float | None = None
    """The learning rate of Adam at the plateau of the schedule, where rows have mean norm 1; null follows from the
    number of steps."""

    def __post_init__(self) -> None:
        for name in ("n_latents", "passes", "batch_rows"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}; give 1 or more.")
        if self.learning_rate is not None and self.learning_rate <= 0:
            raise ValueError(f"learning_rate is {self.learning_rate}; give a number above 0.")
