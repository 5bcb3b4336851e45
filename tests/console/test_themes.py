"""Colours that fit the terminal: nothing quiet turns loud where there are only 256 of them."""

from __future__ import annotations

import colorsys

import pytest
from rich.color import Color, ColorSystem
from textual.theme import Theme

from console.themes import THEMES, fitted

QUIET = ("ink-dim", "ink-faint", "ink-grid", "ink-frame", "ink-cursor")


def shown(color: str) -> tuple[float, float]:
    """Lightness and saturation of what a terminal of 256 colours makes of it."""
    red, green, blue = Color.parse(color).downgrade(ColorSystem.EIGHT_BIT).get_truecolor()
    _, lightness, saturation = colorsys.rgb_to_hls(red / 255, green / 255, blue / 255)
    return lightness, saturation


@pytest.mark.parametrize("theme", THEMES, ids=lambda theme: theme.name)
def test_with_256_colours_what_is_quiet_stays_grey_and_what_speaks_keeps_its_colour(theme: Theme) -> None:
    small = fitted(theme, "256")
    for name in QUIET:
        if theme.name == "sextant-contrast" and name == "ink-cursor":
            continue  # its cursor is meant to be seen
        assert shown(small.variables[name])[1] < 0.1, name
    for name in ("ink-long", "ink-short", "ink-ok", "ink-warn", "ink-block"):
        assert small.variables[name] == theme.variables[name], name
    for ground in (small.background, small.panel):
        assert ground is not None
        distance = abs(shown(small.variables["ink-dim"])[0] - shown(ground)[0])
        assert distance > 0.2, "dim text can be read"


@pytest.mark.parametrize("theme", THEMES, ids=lambda theme: theme.name)
def test_true_colour_is_left_alone(theme: Theme) -> None:
    assert fitted(theme, "truecolor") is theme
