"""Running: the cells that are to do are done in worker processes, which may die."""
