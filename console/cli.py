"""The command line: parses, builds `RunOptions`, calls bootstrap, and turns every failure into one plain line.

Exit codes: 0 fine, 1 something failed, 2 bad input, 3 the state or database must not be touched, 130 interrupted.
What is heavy (bootstrap, and through it engine and screens) is imported by the command that needs it.
"""

from __future__ import annotations

import io
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from console.cli_db import app as db_app
from console.cli_listings import LISTINGS
from console.command import (
    BAD_INPUT,
    FINE,
    INTERRUPTED,
    ConfigOption,
    DbOption,
    StateOption,
    closed_pipe,
    complain,
    guarded,
)
from console.options import AS_FAST_AS_IT_GOES, RunOptions
from engine.domain.market import Timeframe
from engine.errors import ConfigurationError

if TYPE_CHECKING:
    from console.config_model import DeskSettings
    from console.running import Hosted

LEAVE_SECONDS = 2.0

app = typer.Typer(
    name="sextant",
    help="A trading console that always knows who to believe.",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
app.add_typer(db_app, name="db")

ExchangeOption = Annotated[
    str | None,
    typer.Option(
        "--exchange", metavar="PATH", help="Trade on an exchange process: its socket (python -m brokers.paper)."
    ),
]
ReplayOption = Annotated[
    Path | None, typer.Option("--replay", metavar="FILE", help="Play a recording (CSV) instead of a live feed.")
]
SymbolOption = Annotated[
    str | None, typer.Option("--symbol", metavar="SYM", help="What the recording holds; or run only this symbol.")
]
TimeframeOption = Annotated[
    str | None, typer.Option("--timeframe", metavar="1s..1d", help="Candle length of every session (default 1m).")
]
StrategyOption = Annotated[
    str | None, typer.Option("--strategy", metavar="NAME", help="Strategy of every session: NAME or path.py:Class.")
]
WarmupOption = Annotated[
    int | None, typer.Option("--warmup", metavar="N", help="Candles that warm a strategy before it may trade.")
]
SpeedOption = Annotated[str, typer.Option("--speed", metavar="N|max", help="Pace of a replay (1: real time).")]
HeadlessOption = Annotated[bool, typer.Option("--headless", help="Run without a screen.")]
ForOption = Annotated[
    float | None, typer.Option("--for", metavar="SECONDS", help="End a headless run after so much wall time.")
]
RunJsonOption = Annotated[bool, typer.Option("--json", help="End a headless run with one JSON object on stdout.")]
LiveOption = Annotated[bool, typer.Option("--live", help="Allow live accounts (none in this release).")]
AlertOption = Annotated[
    bool, typer.Option("--alert", help="Send a test through every channel of [alerts]; LIVE demands that it arrived.")
]
TakeOverOption = Annotated[
    bool, typer.Option("--take-over", help="An engine on another machine has certainly ended: command its accounts.")
]


def main() -> None:
    """Entry point of `sextant`."""
    from console.process import exit_within

    code = run_command(sys.argv[1:])
    exit_within(LEAVE_SECONDS, code)  # a thread may wait for a disk that never answers, and Python for the thread
    sys.exit(code)


def run_command(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit code; nothing escapes but the process's own end."""
    from console.process_log import silence

    silence()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # an ASCII terminal gets \u2192 for an arrow, not a failure
            stream.reconfigure(errors="backslashreplace")
    try:
        code = app(args=list(arguments), prog_name="sextant", standalone_mode=False)
        sys.stdout.flush()
        return code if isinstance(code, int) else FINE
    except typer.TyperException as error:
        return complain(error.format_message(), BAD_INPUT)
    except BrokenPipeError:
        return closed_pipe()
    except KeyboardInterrupt:
        return INTERRUPTED


@app.callback(invoke_without_command=True)
def sextant(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> int:
    if version:
        from importlib.metadata import version as version_of

        print(f"sextant {version_of('sextant-console')}")
        raise typer.Exit(FINE)
    if context.invoked_subcommand is None:
        print(context.get_help())
    return FINE


@app.command()
def run(
    config: ConfigOption = None,
    db: DbOption = None,
    state_dir: StateOption = None,
    exchange: ExchangeOption = None,
    replay: ReplayOption = None,
    symbol: SymbolOption = None,
    timeframe: TimeframeOption = None,
    strategy: StrategyOption = None,
    warmup: WarmupOption = None,
    speed: SpeedOption = "1",
    headless: HeadlessOption = False,
    seconds: ForOption = None,
    json: RunJsonOption = False,
    live: LiveOption = False,
    take_over: TakeOverOption = False,
) -> int:
    """Run the desk: with its console, or headless."""

    def command() -> int:
        from console.process import harden

        harden()
        screen = all(stream.isatty() for stream in (sys.stdin, sys.stdout, sys.stderr))
        asked = RunOptions(
            config=config,
            db=db,
            state_dir=state_dir,
            exchange=exchange,
            replay=replay,
            symbol=symbol,
            timeframe=_timeframe(timeframe),
            strategy=strategy,
            warmup=_warmup(warmup),
            speed=_speed(speed),
            headless=headless or not screen,
            seconds=_seconds(seconds),
            json=json,
            live=live,
            take_over=take_over,
        )
        if not asked.headless and (json or seconds is not None):
            raise ConfigurationError(
                f"{'--json' if json else '--for'} belongs to a run without a screen; add --headless"
            )
        if asked.headless and not headless:
            complain("no terminal here, so the desk runs headless (SIGTERM or Ctrl+C ends it)", FINE)
        return _headless(asked) if asked.headless else _with_screen(asked)

    return guarded(command)


def _headless(asked: RunOptions) -> int:
    from console import bootstrap

    return bootstrap.run_headless(asked)


def _with_screen(asked: RunOptions) -> int:
    """The screen comes first: engine and brokers are imported and the desk is made while it shows already."""
    from console import config as configuration
    from console import running
    from console.config_model import FeedKind

    if asked.replay is None:
        settings = configuration.settle(asked)
        if settings.feed is not FeedKind.REPLAY:
            return running.with_screen(settings, lambda: _made(settings, asked))
    from console import bootstrap

    settings, tape, asked = bootstrap.settings_for(asked)
    return running.with_screen(settings, lambda: bootstrap.hosted(settings, tape, asked))


def _made(settings: DeskSettings, asked: RunOptions) -> Hosted:
    from console import bootstrap

    return bootstrap.hosted(settings, None, asked)


@app.command()
def doctor(
    config: ConfigOption = None,
    db: DbOption = None,
    state_dir: StateOption = None,
    exchange: ExchangeOption = None,
    replay: ReplayOption = None,
    symbol: SymbolOption = None,
    timeframe: TimeframeOption = None,
    strategy: StrategyOption = None,
    warmup: WarmupOption = None,
    speed: SpeedOption = "1",
    headless: HeadlessOption = False,
    seconds: ForOption = None,
    json: RunJsonOption = False,
    live: LiveOption = False,
    alert: AlertOption = False,
) -> int:
    """Say what is configured, durable and reachable, and print the effective configuration."""

    def command() -> int:
        from console.process import harden

        harden()
        asked = RunOptions(
            config=config,
            db=db,
            state_dir=state_dir,
            exchange=exchange,
            replay=replay,
            symbol=symbol,
            timeframe=_timeframe(timeframe),
            strategy=strategy,
            warmup=_warmup(warmup),
            speed=_speed(speed),
            headless=headless,
            seconds=_seconds(seconds),
            json=json,
            live=live,
        )
        from console import bootstrap

        return bootstrap.doctor(asked, alert=alert)

    return guarded(command)


@app.command()
def candles(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Recorded ticks (CSV).")],
    timeframe: Annotated[str, typer.Option("--timeframe", metavar="1s..1d", help="Candle length.")] = "1m",
    symbol: SymbolOption = None,
    out: Annotated[Path | None, typer.Option("--out", metavar="CSV", help="Write there instead of stdout.")] = None,
) -> int:
    """Closed candles from recorded ticks, by the assembler that trades: timestamp,open,high,low,close,volume."""

    def command() -> int:
        length = _timeframe(timeframe)
        assert length is not None
        from console import bootstrap

        return bootstrap.candles(file, length, symbol, out)

    return guarded(command)


def _timeframe(text: str | None) -> Timeframe | None:
    try:
        return None if text is None else Timeframe.parse(text)
    except ValueError as error:
        raise ConfigurationError(f"--timeframe: {error}") from None


def _speed(text: str) -> float:
    if text == "max":
        return AS_FAST_AS_IT_GOES
    try:
        speed = float(text)
    except ValueError:
        speed = math.nan
    if not 0 < speed < math.inf:
        raise ConfigurationError(f"--speed {text!r} is not a pace; give a number above 0 (1 is real time), or max")
    return speed


def _seconds(seconds: float | None) -> float | None:
    if seconds is not None and not 0 < seconds < math.inf:
        raise ConfigurationError(f"--for {seconds:g} is not a time; give seconds above 0")
    return seconds


def _warmup(count: int | None) -> int | None:
    if count is not None and not 0 <= count <= 100_000:
        raise ConfigurationError(f"--warmup {count} is not a number of candles; give 0 to 100000")
    return count


for _listing in LISTINGS:
    app.command()(_listing)


if __name__ == "__main__":
    main()
