"""Tests, laid out as `harness/` and `plugins/` are."""
