"""Finds plugins, checks their parameters, and shields the harness from their code."""
