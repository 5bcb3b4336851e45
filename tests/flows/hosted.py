"""A desk on its own thread, as the program runs it, for tests that live on the machine's own clock."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from console.bootstrap import Desk, settings_for, strategies_for
from console.options import RunOptions
from engine import commands as c
from engine.domain.ids import CommandId
from engine.domain.settings import ShutdownPolicy
from engine.host import EngineHost
from engine.snapshot import DeskSnapshot, Phase
from tests.e2e.desks import ONE_SESSION

SETTINGS = f"[desk]\nseed = 3\n{ONE_SESSION}"
PATIENCE = 60.0


def eventually(predicate: Callable[[], Any], what: str) -> Any:
    """The first true answer; real time passes, so it is asked often and given up late."""
    deadline = time.monotonic() + PATIENCE
    while not (answer := predicate()):
        assert time.monotonic() < deadline, f"not within {PATIENCE:g} s: {what}"
        time.sleep(0.01)
    return answer


class Hosted:
    """A desk on its own thread."""

    def __init__(self, directory: Path, db: str | None = None) -> None:
        config = directory / "sextant.toml"
        config.write_text(SETTINGS)
        asked = RunOptions(config=config, state_dir=directory / "state", headless=True, db=db)
        settings, tape, options = settings_for(asked)
        self.desk = Desk(settings, tape, strategies_for(settings), options.speed)
        self.host = EngineHost(self.desk.plan, manage_gc=False)
        self._count = 0

    def start(self) -> Hosted:
        self.host.start()
        self.host.started.result(PATIENCE)
        return self

    def origin(self) -> c.Origin:
        self._count += 1
        return c.Origin(id=CommandId(f"c{self._count}"), operator="test", place="test", at=time.time_ns() // 1_000_000)

    def picture(self) -> DeskSnapshot:
        picture = eventually(self.host.snapshot, "a snapshot")
        assert isinstance(picture, DeskSnapshot)
        return picture

    def trading(self) -> None:
        eventually(lambda: self.picture().sessions[0].phase is Phase.TRADING, "trading")

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Nothing runs on the engine's loop meanwhile, as if something had blocked it."""
        loop, thaw, stands = self.host._loop, threading.Event(), threading.Event()
        assert loop is not None

        def freeze() -> None:
            stands.set()
            thaw.wait()

        loop.call_soon_threadsafe(freeze)
        assert stands.wait(PATIENCE)
        try:
            yield
        finally:
            thaw.set()

    def end(self) -> None:
        self.host.shut_down(ShutdownPolicy.LEAVE)
        self.host.ended.result(PATIENCE)
        self.desk.close()
