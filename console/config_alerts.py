"""`[alerts]` and `[alerts.channels.NAME]`: who is told outside the screen. No address is ever in the file."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from console import config_values as read
from console.alerting import AlertSettings, Channel, Desktop, Form, From
from console.config_keys import KEYS
from console.config_source import Section

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")


def alert_settings(section: Section, base: Path) -> AlertSettings:
    """The checked table; a relative `url_file` starts at `base`. Raises ConfigurationError with file, line and key."""
    default = AlertSettings()
    return AlertSettings(
        bell=section.take("bell", read.choice(From), default.bell),
        desktop=section.take("desktop", read.choice(From), default.desktop),
        desktop_code=section.take("desktop_code", read.choice(Desktop), default.desktop_code),
        again_after=section.take("again_after", read.seconds(at_most=86_400), default.again_after),
        per_minute=section.take("per_minute", read.whole(at_least=1, at_most=60), default.per_minute),
        channels=tuple(
            _channel(name, table, base)
            for name, table in section.named("channels", KEYS["alerts.channels.NAME"], read.name)
        ),
    )


def _channel(name: str, section: Section, base: Path) -> Channel:
    default = Channel(name=name)
    channel = Channel(
        name=name,
        form=section.take("form", read.choice(Form), default.form),
        least=section.take("from", read.choice(From), default.least),
        url_env=section.take("url_env", _variable, None),
        url_file=section.take("url_file", lambda value: str(read.path_from(base)(value)), None),
    )
    if (channel.url_env is None) == (channel.url_file is None):
        raise section.refuse(
            "url_env",
            "is missing; name the environment variable, or with url_file the file, that holds the channel's address"
            if channel.url_env is None
            else "and url_file exclude each other; keep one of them",
        )
    return channel


def _variable(value: Any) -> str:
    # An address pasted here must not be repeated on a terminal: it may hold a token.
    if not isinstance(value, str) or not _VARIABLE.fullmatch(value):
        raise ValueError("must be the name of an environment variable, such as SEXTANT_PHONE, not the address itself")
    return value
