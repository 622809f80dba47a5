"""From what users write to cells with keys."""
