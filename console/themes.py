"""Themes and the desk's own colours: long, short, warn, block, stale, disagree, from palettes safe for every eye."""

from __future__ import annotations

from copy import copy

from textual.theme import Theme

CALM = Theme(
    name="sextant",
    primary="#56B4E9",
    secondary="#7AA2C4",
    accent="#E9C46A",
    foreground="#D5DAE1",
    background="#10141A",
    surface="#151A21",
    panel="#1D242D",
    success="#4CC9A0",
    warning="#E69F00",
    error="#FF7A45",
    dark=True,
    variables={
        "ink-bright": "#FFFFFF",
        "ink-dim": "#8A95A3",
        "ink-faint": "#2C3540",
        "ink-long": "#56B4E9",
        "ink-short": "#E08A2E",
        "ink-ok": "#4CC9A0",
        "ink-warn": "#F0B429",
        "ink-block": "#FF7A45",
        "ink-stale": "#7C7291",
        "ink-disagree": "#DB8FC4",
        "ink-grid": "#28313B",
        "ink-frame": "#36414E",
        "ink-on": "#10141A",
        "ink-cursor": "#24303D",
        "ink-live": "#D55E00",
    },
)
"""The default: dark and quiet, blue up and orange down (Okabe and Ito's pair), vermilion only for what is shut."""

CONTRAST = Theme(
    name="sextant-contrast",
    primary="#7FD0FF",
    secondary="#BFE3FF",
    accent="#FFE066",
    foreground="#FFFFFF",
    background="#000000",
    surface="#000000",
    panel="#1A1A1A",
    success="#5CFFBE",
    warning="#FFC400",
    error="#FF8A5C",
    dark=True,
    variables={
        "ink-bright": "#FFFFFF",
        "ink-dim": "#C9CED6",
        "ink-faint": "#5A6470",
        "ink-long": "#7FD0FF",
        "ink-short": "#FFA53A",
        "ink-ok": "#5CFFBE",
        "ink-warn": "#FFD60A",
        "ink-block": "#FF8A5C",
        "ink-stale": "#B7A8E0",
        "ink-disagree": "#FFA8E6",
        "ink-grid": "#4A4F57",
        "ink-frame": "#9AA3AF",
        "ink-on": "#000000",
        "ink-cursor": "#1F3F63",
        "ink-live": "#FF6A1F",
    },
)
"""More contrast on black, for bad light and bad screens."""

PAPER_WHITE = Theme(
    name="sextant-light",
    primary="#0072B2",
    secondary="#3D6B8C",
    accent="#8A5A00",
    foreground="#22272E",
    background="#F7F6F2",
    surface="#FFFFFF",
    panel="#E9E7E0",
    success="#00795A",
    warning="#8F6200",
    error="#B8420B",
    dark=False,
    variables={
        "ink-bright": "#000000",
        "ink-dim": "#69727D",
        "ink-faint": "#D3D0C7",
        "ink-long": "#0072B2",
        "ink-short": "#B85C00",
        "ink-ok": "#00795A",
        "ink-warn": "#8F6200",
        "ink-block": "#B8420B",
        "ink-stale": "#7B6F95",
        "ink-disagree": "#A03E82",
        "ink-grid": "#DEDBD2",
        "ink-frame": "#B9B5A9",
        "ink-on": "#FFFFFF",
        "ink-cursor": "#DCE9F3",
        "ink-live": "#B8420B",
    },
)
"""Dark on light, for daylight."""

THEMES = (CALM, CONTRAST, PAPER_WHITE)
GROUNDS = ("primary", "secondary", "accent", "foreground", "background", "surface", "panel")
FAINT_TINT = 48
"""Channels this close make a grey with a breath of colour."""


def fitted(theme: Theme, color_system: str | None) -> Theme:
    """The theme for a terminal of so many colours.

    Of 256 colours the six steps of the cube hold no dark grey-blue: the nearest one is a loud teal. Where there is no
    true colour such greys become plain ones, for which the palette has 24 steps.
    """
    if color_system == "truecolor":
        return theme
    small = copy(theme)
    for name in GROUNDS:
        setattr(small, name, _plain_grey(getattr(theme, name)))
    small.variables = {name: _plain_grey(value) for name, value in theme.variables.items()}
    return small


def _plain_grey(color: str) -> str:
    red, green, blue = (int(color[at : at + 2], 16) for at in (1, 3, 5))
    if max(red, green, blue) - min(red, green, blue) > FAINT_TINT:
        return color
    grey = round(0.299 * red + 0.587 * green + 0.114 * blue)
    return f"#{grey:02X}{grey:02X}{grey:02X}"


def next_theme(name: str) -> str:
    """The theme after this one."""
    names = [theme.name for theme in THEMES]
    return names[(names.index(name) + 1) % len(names)] if name in names else names[0]
