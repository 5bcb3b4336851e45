"""Runs a desk to its end: headless with a summary, or under the screen; signals reach both."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Protocol

from msgspec import Struct, to_builtins

from console import process
from console.alerting import Notice, sounds
from console.client import Host, InProcessClient
from console.command import FAILED, FINE, complain
from console.config_model import DeskSettings, FeedKind
from console.formatting import plain
from console.notify import Notifier, address_of
from console.opening import OpeningHost
from console.options import RunOptions
from engine.domain.settings import ShutdownPolicy
from engine.errors import DeskHeld, SextantError
from engine.snapshot import RunFigures

STOP_SECONDS = 90.0
SCREEN_SECONDS = 2.0
LEAVE_SECONDS = 5.0


class RunningHost(Host, Protocol):
    """The engine's thread as the process sees it (engine.host.EngineHost)."""

    @property
    def started(self) -> Future[None]:
        """Done when the engine has begun, or could not."""

    @property
    def ended(self) -> Future[None]:
        """Done when the engine has stopped."""

    def start(self) -> None:
        """Start the thread."""

    def shut_down(self, policy: ShutdownPolicy | None = None) -> None:
        """Ask the engine to stop."""

    def trouble(self, key: str, text: str | None) -> None:
        """Raise a warning on the desk, or take it back."""

    def wait_for_tape(self) -> None:
        """Return when a recording was played to its end."""

    def figures(self) -> RunFigures | None:
        """What the run did."""

    def held(self) -> DeskHeld | None:
        """Who took the desk over."""


class Hosted(Struct, frozen=True):
    """A desk about to run: its engine's thread, its settings, and what closes its threads."""

    host: RunningHost
    settings: DeskSettings
    close: Callable[[], None]


class Ending:
    """Why the run ends: the tape's end, the time given, or a signal; whichever comes first."""

    def __init__(self) -> None:
        self._woken = threading.Event()
        self.signal: signal.Signals | None = None

    def wake(self) -> None:
        """The run may end now."""
        self._woken.set()

    def wait(self, seconds: float | None) -> None:
        """Until woken or so many seconds passed."""
        self._woken.wait(seconds)


def _go_at_once() -> None:
    """The second signal: what is queued has had its chance; leave."""
    process.exit_within(2.0, code=1)


def headless(desk: Hosted, options: RunOptions) -> int:
    """Without a screen: until the tape ends, `--for` seconds passed, or a signal came."""
    state = process.state_directory(desk.settings.state_dir)
    process.start_logging(state)
    ending = Ending()
    host = desk.host
    notifier = _notifier(desk.settings, host, None)

    def on_signal(caught: signal.Signals, urgency: process.Urgency) -> None:
        ending.signal = caught
        ending.wake()
        if urgency is process.Urgency.GO:
            _go_at_once()

    process.SignalThread(on_signal)
    began = time.monotonic()
    host.start()
    notifier.start()
    try:
        host.started.result()
        if desk.settings.feed is FeedKind.REPLAY:
            threading.Thread(target=_watch_tape, args=(host, ending), name="tape", daemon=True).start()
        host.ended.add_done_callback(lambda _: ending.wake())
        ending.wait(options.seconds)
        host.shut_down()
        host.ended.result(STOP_SECONDS)
        uptime = time.monotonic() - began
        if (held := host.held()) is not None:
            raise held
        figures = host.figures()
        if figures is None:
            return 1
        did = summary(figures, uptime)
        sys.stdout.write(json.dumps(did) + "\n" if options.json else told(did))
        return owned_up(figures)
    except SextantError:
        host.ended.result(STOP_SECONDS)
        raise
    finally:
        notifier.end()
        _put_away(desk.settings, desk.close)


def _put_away(settings: DeskSettings, close: Callable[[], None]) -> None:
    """Close what is left; a disk that hangs keeps nobody."""
    leaving = process.exit_within(LEAVE_SECONDS, code=1)
    close()
    if settings.temporary:
        shutil.rmtree(settings.state_dir, ignore_errors=True)
    leaving.cancel()


def _watch_tape(host: RunningHost, ending: Ending) -> None:
    host.wait_for_tape()
    ending.wake()


def with_screen(settings: DeskSettings, make: Callable[[], Hosted]) -> int:
    """Under the console, which shows before the desk is made; leaves a clean terminal whatever happens."""
    process.prepare_terminal()
    state = process.state_directory(settings.state_dir)
    process.start_logging(state)
    host = OpeningHost(make)
    from console.app import SextantApp
    from console.terminal import terminal_colors

    place = os.environ.get("SSH_CONNECTION", "").split(" ")[0] or "this terminal"
    app = SextantApp(
        InProcessClient(host),
        operator=settings.operator,
        place=place,
        when_shown=host.start,
        colors=terminal_colors(),
        keys=settings.keys,
        exports=Path.cwd() if settings.temporary else state / "exports",
    )

    def on_signal(caught: signal.Signals, urgency: process.Urgency) -> None:
        if urgency is process.Urgency.GO:
            _go_at_once()
            return
        if caught is signal.SIGHUP:
            app.terminal_lost()
            host.shut_down()
            host.ended.add_done_callback(lambda _: process.exit_within(SCREEN_SECONDS))
        else:
            app.request_quit(settings.shutdown)

    def ring(notice: Notice) -> None:
        if app.is_running:
            app.call_later(app.ring, sounds(settings.alerts, notice, settings.title, in_tmux="TMUX" in os.environ))

    notifier = _notifier(settings, host, ring)
    process.SignalThread(on_signal)
    host.started.add_done_callback(lambda done: _leave_if_failed(done, app))
    notifier.start()
    try:
        app.run()
        failure = host.started.exception() if host.started.done() else None
        if failure is not None:
            host.ended.result(STOP_SECONDS)
            raise failure
        host.shut_down()
        host.ended.result(STOP_SECONDS)
        return app.return_code or owned_up(host.figures())
    finally:
        notifier.end()
        _put_away(settings, host.close)


def _notifier(
    settings: DeskSettings, host: RunningHost | OpeningHost, ring: Callable[[Notice], None] | None
) -> Notifier:
    """Who tells of alerts outside the screen; a recording wakes nobody. Raises ConfigurationError."""
    quiet = settings.feed is FeedKind.REPLAY
    addresses = {} if quiet else {channel.name: address_of(channel) for channel in settings.alerts.channels}
    return Notifier(settings.alerts, addresses, host, ring=ring, quiet=quiet, title=settings.title)


def _leave_if_failed(done: Future[None], app: Any) -> None:
    if done.exception() is not None:
        app.call_later(app.exit)


def owned_up(figures: RunFigures | None) -> int:
    """The exit code: a run whose audit trail lacks rows says so last, and does not end as if nothing were wrong."""
    if figures is None or not figures.unwritten:
        return FINE
    rows = "1 row" if figures.unwritten == 1 else f"{figures.unwritten} rows"
    return complain(
        f"{rows} could not be written to the audit trail; sextant.log names them, and the next start takes orders, "
        "fills and positions from the broker",
        FAILED,
    )


def summary(figures: RunFigures, uptime: float) -> dict[str, Any]:
    """What a run did, as one JSON object."""
    percent = figures.heat_percent
    return {
        "ticks": figures.ticks,
        "candles_closed": figures.candles_closed,
        "candles_replaced": figures.candles_replaced,
        "warmup_candles": figures.warmup_candles,
        "strategy_runs": figures.strategy_runs,
        "decisions": figures.decisions,
        "orders": figures.orders,
        "fills": figures.fills,
        "disagreements": figures.disagreements,
        "heat": {"complete": figures.heat_complete, "percent": None if percent is None else round(float(percent), 4)},
        "rows_not_written": figures.unwritten,
        "uptime_s": round(uptime, 3),
        "loop_lag_ms": to_builtins(figures.loop_lag),
    }


def told(figures: dict[str, Any]) -> str:
    """The same for a person."""
    return "".join(f"{plain(str(key)):<18} {plain(json.dumps(value))}\n" for key, value in figures.items())
