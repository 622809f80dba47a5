"""Cells that are not done, done in processes that may die."""
