"""A suite's results as a page to look at: opens from disk, asks no network, shows what was measured and what was not."""
