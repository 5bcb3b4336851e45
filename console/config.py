"""TOML, environment and options become one frozen desk; an error names the file, the line and the key.

    config_source    the file as text: parsed, and the line of every key
    config_values    readers of single values
    config_schema    every section and key, and what must hold between them
    config_desks     the desks that need no file
    config_text      a desk as TOML again

Options win over the environment (SEXTANT_CONFIG, SEXTANT_DB, SEXTANT_STATE_DIR), the environment over the file,
the file over the defaults.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from console import config_values as read
from console.config_desks import default_desk, replay_desk
from console.config_keys import KEYS
from console.config_model import (
    DATABASE_FILE,
    AccountSettings,
    Database,
    DeskSettings,
    FeedKind,
    HangUp,
    SqliteFile,
)
from console.config_schema import Elsewhere, database_at, desk_settings, exchange_at
from console.config_source import read_file, read_text, suggest
from console.config_text import describe
from console.formatting import plain
from console.options import AS_FAST_AS_IT_GOES, RunOptions
from engine.domain.ids import Symbol
from engine.domain.market import Timeframe
from engine.domain.postgres_url import PostgresUrl
from engine.domain.settings import SessionSettings
from engine.errors import ConfigurationError

__all__ = [
    "AS_FAST_AS_IT_GOES", "DATABASE_FILE", "KEYS", "AccountSettings", "Database", "DeskSettings",
    "FeedKind", "HangUp", "PostgresUrl", "RunOptions", "SqliteFile", "TapeFacts", "default_desk", "describe", "load",
    "needs_tape_facts", "parse", "replay_desk", "settle", "state_home",
]  # fmt: skip

DEFAULT_TIMEFRAME = Timeframe(60_000)


class TapeFacts(Struct, frozen=True, kw_only=True):
    """What a look through a recording tells: its smallest price step, any price of it, and how long its feed may
    rest before it counts as stale."""

    tick_size: Decimal
    price: Decimal
    stale_after_ms: int = 15_000


def state_home(environ: Mapping[str, str]) -> Path:
    """Where a desk keeps its state when nobody says: $XDG_STATE_HOME/sextant or ~/.local/state/sextant."""
    base = environ.get("XDG_STATE_HOME", "")
    # The XDG rules: a relative path there is to be ignored.
    root = Path(base) if base.startswith("/") else Path(environ.get("HOME") or Path.home()) / ".local" / "state"
    return root / "sextant"


def load(file: Path, environ: Mapping[str, str] = os.environ, options: RunOptions | None = None) -> DeskSettings:
    """The desk of one file. Raises ConfigurationError with one sentence naming file, line and key."""
    source, document = read_file(file)
    base = Path(os.path.abspath(file.expanduser())).parent
    return desk_settings(source, document, base, _elsewhere(options or RunOptions(), environ))


def parse(text: str, name: str, base: Path, environ: Mapping[str, str] = os.environ) -> DeskSettings:
    """The desk of a text; `name` stands for the file in messages. Raises ConfigurationError."""
    source, document = read_text(text, name)
    return desk_settings(source, document, base, _elsewhere(RunOptions(), environ))


def needs_tape_facts(options: RunOptions, environ: Mapping[str, str] = os.environ) -> bool:
    """Whether `settle` must be given a look through the recording: a replay that no configuration describes.

    Raises ConfigurationError when the options alone show that it cannot be played.
    """
    if options.replay is None:
        return False
    if not options.replay.is_file():
        what = "is a directory, not a recording" if options.replay.is_dir() else "does not exist"
        raise ConfigurationError(plain(f"{options.replay} {what}; correct --replay"))
    if _config_file(options, environ) is not None:
        return False
    if _symbol_of(options) is None:
        raise ConfigurationError("--replay needs --symbol, the name of what the recording holds, such as EURUSD")
    return True


def settle(
    options: RunOptions, environ: Mapping[str, str] = os.environ, *, tape: TapeFacts | None = None
) -> DeskSettings:
    """The desk that these options run: from a file, from a recording alone, or the embedded paper desk.

    A replay without a state directory gets a fresh temporary one, made here (`temporary` is then set).
    Raises ConfigurationError with one sentence; nothing is made in that case.
    """
    config = _config_file(options, environ)
    if needs_tape_facts(options, environ):
        assert tape is not None, "look through the recording first: needs_tape_facts()"
        desk = _replay_alone(options, environ, tape)
    else:
        desk = load(config, environ, options) if config else _embedded(options, environ)
        desk = _narrowed(_replayed(desk, options), options)
    if options.speed != 1 and desk.feed is not FeedKind.REPLAY:
        raise ConfigurationError("--speed sets the pace of a recording; give --replay FILE, or leave --speed out")
    if options.live:
        raise ConfigurationError(
            "--live needs an account with live = true, and this release trades paper accounts only"
        )
    return _with_state(_at_exchange(desk, options), options, environ)


def _at_exchange(desk: DeskSettings, options: RunOptions) -> DeskSettings:
    """The desk on the exchange process that the options name; a recording always brings its own exchange."""
    if desk.feed is FeedKind.REPLAY:
        if options.exchange is not None:
            raise ConfigurationError("--exchange and a recording exclude each other; leave one of them out")
        return replace(desk, exchange=None)
    if options.exchange is None:
        return desk
    try:
        return replace(desk, exchange=exchange_at(options.exchange, Path.cwd()))
    except ValueError as error:
        raise ConfigurationError(f"--exchange {error}") from None


def _config_file(options: RunOptions, environ: Mapping[str, str]) -> Path | None:
    if options.config is not None:
        return options.config
    named = environ.get("SEXTANT_CONFIG", "")
    return Path(named) if named else None


def _elsewhere(options: RunOptions, environ: Mapping[str, str]) -> Elsewhere:
    return Elsewhere(
        state_dir=_state_dir(options, environ),
        database=_database(options, environ),
        default_state_dir=state_home(environ),
        operator=_operator(environ),
    )


def _state_dir(options: RunOptions, environ: Mapping[str, str]) -> Path | None:
    if options.state_dir is not None:
        return Path(os.path.abspath(options.state_dir.expanduser()))
    named = environ.get("SEXTANT_STATE_DIR", "")
    return Path(os.path.abspath(Path(named).expanduser())) if named else None


def _database(options: RunOptions, environ: Mapping[str, str]) -> Database | None:
    for origin, written in (("--db", options.db), ("SEXTANT_DB", environ.get("SEXTANT_DB") or None)):
        if written is not None:
            try:
                return database_at(written, Path.cwd())
            except ValueError as error:
                raise ConfigurationError(f"{origin} {error}") from None
    return None


def _operator(environ: Mapping[str, str]) -> str:
    """Who sits here, in letters that every screen and row can hold."""
    name = re.sub(r"[^A-Za-z0-9._-]", "", environ.get("LOGNAME") or environ.get("USER") or "").lstrip("._-")
    return name[:32] or "operator"


def _embedded(options: RunOptions, environ: Mapping[str, str]) -> DeskSettings:
    elsewhere = _elsewhere(options, environ)
    return default_desk(elsewhere.state_dir or elsewhere.default_state_dir, elsewhere.operator)


def _replay_alone(options: RunOptions, environ: Mapping[str, str], facts: TapeFacts) -> DeskSettings:
    symbol = _symbol_of(options)
    assert options.replay is not None
    assert symbol is not None
    return replay_desk(
        _state_dir(options, environ) or state_home(environ),
        replay=Path(os.path.abspath(options.replay)),
        symbol=symbol,
        tick_size=facts.tick_size,
        price=facts.price,
        stale_after_ms=facts.stale_after_ms,
        timeframe=options.timeframe or DEFAULT_TIMEFRAME,
        strategy=_strategy_of(options) or "ema_cross",
        warmup=20 if options.warmup is None else options.warmup,
        operator=_operator(environ),
    )


def _symbol_of(options: RunOptions) -> Symbol | None:
    try:
        return None if options.symbol is None else Symbol(read.symbol(options.symbol))
    except ValueError as error:
        raise ConfigurationError(f"--symbol {error}") from None


def _strategy_of(options: RunOptions) -> str | None:
    try:
        return None if options.strategy is None else read.strategy_from(Path.cwd())(options.strategy)
    except ValueError as error:
        raise ConfigurationError(f"--strategy {error}") from None


def _replayed(desk: DeskSettings, options: RunOptions) -> DeskSettings:
    """The desk fed by a recording, where the options or the file say so."""
    if options.replay is not None:
        desk = replace(desk, feed=FeedKind.REPLAY, replay=Path(os.path.abspath(options.replay)))
    if desk.feed is not FeedKind.REPLAY:
        return desk
    traded = sorted({session.symbol for session in desk.sessions})
    symbol = _symbol_of(options) or desk.replay_symbol or (traded[0] if len(traded) == 1 else None)
    if symbol is None:
        raise ConfigurationError(
            f"a recording holds one symbol and {desk.origin} trades {', '.join(traded)}; say which with --symbol"
        )
    playing = tuple(session for session in desk.sessions if session.symbol == symbol)
    if not playing:
        raise ConfigurationError(f"no session of {desk.origin} trades {symbol}; {suggest(symbol, traded)}")
    return replace(desk, replay_symbol=symbol, sessions=playing)


def _narrowed(desk: DeskSettings, options: RunOptions) -> DeskSettings:
    """The sessions that the options leave, changed as they say."""
    symbol, strategy = _symbol_of(options), _strategy_of(options)
    sessions = tuple(s for s in desk.sessions if symbol is None or s.symbol == symbol)
    if not sessions:
        traded = {session.symbol for session in desk.sessions}
        raise ConfigurationError(
            f"--symbol {symbol}: no session of {desk.origin} trades it; {suggest(str(symbol), traded)}"
        )

    def changed(session: SessionSettings) -> SessionSettings:
        if options.timeframe is not None:
            session = replace(session, timeframe=options.timeframe)
        if strategy is not None and strategy != session.strategy:  # the old one's arguments mean nothing to it
            session = replace(session, strategy=strategy, arguments={})
        return session if options.warmup is None else replace(session, warmup=options.warmup)

    return replace(desk, sessions=tuple(changed(session) for session in sessions))


def _with_state(desk: DeskSettings, options: RunOptions, environ: Mapping[str, str]) -> DeskSettings:
    """Where the desk keeps its state. A `--replay` never writes into the state of the desk it borrows its settings
    or environment from: unless the command line names a directory, it gets a fresh one."""
    if options.replay is not None and options.state_dir is None:
        database = _database(RunOptions(db=options.db), {})
        fresh = Path(tempfile.mkdtemp(prefix="sextant-replay-"))
        desk = replace(desk, state_dir=fresh, database=SqliteFile(fresh / DATABASE_FILE), temporary=True)
    else:
        database = _database(options, environ)
    return desk if database is None else replace(desk, database=database)
