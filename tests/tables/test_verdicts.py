"""Which window of a card a verdict is about."""

from __future__ import annotations

import dataclasses

import pytest

import harness
from harness.tables.verdicts import WindowPlaces


def _window(activation: float, document: str = "d") -> harness.LatentWindow:
    return harness.LatentWindow(document, (" a", " b"), (0.0, activation), activation > 0, "random")


def _place(window: harness.LatentWindow, *windows: harness.LatentWindow) -> int:
    found: int = WindowPlaces(windows).row(harness.Verdict(window, True, True))["window"]
    return found


def test_windows_of_like_text_are_told_apart() -> None:
    windows = [_window(1.0), _window(2.0), _window(1.0, "other")]
    assert [_place(window, *windows) for window in windows] == [0, 1, 2]


def test_a_copy_turned_round_is_the_same_window() -> None:
    window = _window(2.0)
    assert _place(dataclasses.replace(window, is_active=False, sample="silent"), _window(1.0), window) == 1


def test_a_window_that_is_none_of_the_card_is_an_error() -> None:
    with pytest.raises(harness.PluginError, match="which is none of the latent's test"):
        _place(_window(3.0), _window(1.0))
