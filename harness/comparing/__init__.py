"""Pairs of sides: which rows they share, and the value of a metric."""
