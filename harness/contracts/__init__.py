"""Contracts: what a plugin of each kind must have, and what it is given; a file for each kind."""
