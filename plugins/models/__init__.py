"""Specs of the built-in models. Imports no torch."""

from __future__ import annotations

import harness

SPECS: list[harness.Spec] = []
