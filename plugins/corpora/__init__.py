"""Specs of the built-in corpora. Imports no torch."""

from __future__ import annotations

import harness

SPECS: list[harness.Spec] = []
