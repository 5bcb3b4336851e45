"""From a name or a file to a strategy; a file is code, so it must be ours and nobody else's to write."""

from __future__ import annotations

import importlib.util
import os
import stat
import sys
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from engine.errors import ConfigurationError
from engine.strategies.protocol import Strategy

BUILT_IN = {
    "ema_cross": ("engine.strategies.ema_cross", "EmaCross"),
    "donchian_breakout": ("engine.strategies.donchian_breakout", "DonchianBreakout"),
    "opening_range": ("engine.strategies.opening_range", "OpeningRange"),
}
ENTRY_POINTS = "sextant.strategies"


def load_strategy(name: str, arguments: dict[str, Any], base: Path | None = None) -> Strategy:
    """Make the strategy `name` (built in, an entry point, or `path.py:Class`, relative to `base`).

    Raises ConfigurationError with one sentence when there is no such strategy, its file is missing, broken or
    writable by others, or it does not take these arguments.
    """
    factory = _factory(name, base)
    plain = {key: float(value) if type(value).__name__ == "Decimal" else value for key, value in arguments.items()}
    try:
        strategy = factory(**plain)
    except Exception as error:
        raise ConfigurationError(
            f"strategy {name} does not take these arguments ({_in_one_line(error)}); correct them"
        ) from error
    if not (callable(getattr(strategy, "decide", None)) and callable(getattr(strategy, "initial", None))):
        raise ConfigurationError(f"strategy {name} has no initial() and decide(); see engine/strategies/protocol.py")
    made: Strategy = strategy
    return made


def _factory(name: str, base: Path | None) -> Any:
    if name in BUILT_IN:
        module, attribute = BUILT_IN[name]
        return getattr(import_module(module), attribute)
    if ".py:" in name:
        path, _, attribute = name.rpartition(":")
        return _from_file(Path(path) if base is None else base / path, attribute)
    for point in entry_points(group=ENTRY_POINTS, name=name):
        try:
            return point.load()
        except Exception as error:
            why = _in_one_line(error)
            raise ConfigurationError(f"strategy {name} could not be loaded: {why}; reinstall its package") from error
    known = ", ".join(sorted(BUILT_IN))
    raise ConfigurationError(f"there is no strategy {name!r}; use one of {known}, or path.py:Class")


def _from_file(path: Path, attribute: str) -> Any:
    try:
        check_ownership(path)
    except FileNotFoundError:
        raise ConfigurationError(f"strategy file {path} does not exist; correct the path before ':'") from None
    except OSError as error:
        raise ConfigurationError(f"strategy file {path} cannot be read: {error.strerror}") from error
    spec = importlib.util.spec_from_file_location(f"sextant_strategy_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise ConfigurationError(f"strategy file {path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    except SyntaxError as error:
        raise ConfigurationError(f"strategy file {path}, line {error.lineno}: {error.msg}") from error
    except (Exception, SystemExit) as error:
        line, why = _line_in(error, path), _in_one_line(error)
        raise ConfigurationError(f"strategy file {path}{line} raised {type(error).__name__}: {why}") from error
    try:
        return getattr(module, attribute)
    except AttributeError:
        raise ConfigurationError(
            f"strategy file {path} has no class {attribute!r}; correct the name after ':'"
        ) from None


def _in_one_line(error: BaseException) -> str:
    return " ".join(str(error).split())


def _line_in(error: BaseException, path: Path) -> str:
    trace, line = error.__traceback__, ""
    while trace is not None:
        if Path(trace.tb_frame.f_code.co_filename) == path:
            line = f", line {trace.tb_lineno}"
        trace = trace.tb_next
    return line


def check_ownership(path: Path) -> None:
    """Refuse code that another user could have written. Raises ConfigurationError, or OSError if unreadable."""
    path = path.resolve(strict=True)
    me = os.geteuid()
    for place in (path, path.parent):
        status = place.stat()
        if status.st_uid not in (me, 0) or (status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)):
            kind = "file" if place is path else "directory"
            raise ConfigurationError(
                f"strategy {kind} {place} belongs to somebody else or is writable by others; "
                f"make it yours alone (chown, chmod go-w)"
            )
