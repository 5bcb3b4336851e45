"""The two programs as processes: the exchange, which lives throughout, and the desk, which does not."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from brokers.paper import wire
from tests.kill.facts import RequestLog

ROOT = Path(__file__).parents[2]
LOOK_EVERY_S = 0.005


class Stalled(Exception):
    """What had to happen did not; the sentence says what."""


def wait_for(what: str, seconds: float, check: Callable[[], bool]) -> None:
    """Look until it is so. Raises Stalled after the deadline."""
    deadline = time.monotonic() + seconds
    while not check():
        if time.monotonic() > deadline:
            raise Stalled(f"not within {seconds:g} s: {what}")
        time.sleep(LOOK_EVERY_S)


class ExchangeProcess:
    """`python -m brokers.paper` with its book and the file of what reached it."""

    def __init__(self, folder: Path, config: Path) -> None:
        self.socket = folder / "x.sock"
        self.book = folder / "x.book"
        self.requests = RequestLog(folder / "requests")
        command: list[str | Path] = [sys.executable, "-m", "brokers.paper", "--socket", self.socket, "--config", config]
        command += ["--requests", folder / "requests"]
        self._process = subprocess.Popen(command, cwd=ROOT)
        wait_for("the exchange listens", 60, self.socket.exists)

    def hold_market(self, hold: bool) -> None:
        """Stop the trades, so that what is compared does not move."""
        asyncio.run(self._say(wire.Halt(hold)))

    async def _say(self, call: wire.Call) -> None:
        reader, writer = await asyncio.open_unix_connection(str(self.socket))
        writer.write(wire.packed(wire.Hello(version=wire.VERSION)) + wire.packed(wire.Ask(1, call)))
        for _ in range(2):  # the welcome, and the answer
            await reader.readexactly(int.from_bytes(await reader.readexactly(wire.HEAD), "big"))
        writer.close()
        await writer.wait_closed()

    def stop(self) -> None:
        """SIGTERM: it writes its whole book. Raises Stalled unless it ends well."""
        self._process.terminate()
        if (code := self._process.wait(60)) != 0:
            raise Stalled(f"the exchange ended with {code}")

    def kill(self) -> None:
        """For when all is over."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()


class DeskProcess:
    """`sextant run --headless` on the exchange; one object for all its lives."""

    def __init__(
        self, folder: Path, exchange: ExchangeProcess, database: str | None, environment: dict[str, str]
    ) -> None:
        self.state = folder / "state"
        self._command: list[str | Path] = [Path(sys.executable).with_name("sextant"), "run", "--headless", "--json"]
        self._command += ["--state-dir", self.state, "--exchange", exchange.socket]
        if database is not None:
            self._command += ["--db", database]
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("SEXTANT_", "XDG_", "PG"))}
        self._environment = {**kept, "HOME": str(folder), **environment}
        self._told = folder / "desk.stderr"
        self._process: subprocess.Popen[bytes] | None = None
        self.lives = 0

    @property
    def runs(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self, config: Path) -> None:
        self.lives += 1
        with self._told.open("ab") as told:
            self._process = subprocess.Popen(
                [*self._command, "--config", config], env=self._environment, stdout=subprocess.DEVNULL, stderr=told
            )

    def check(self) -> None:
        """Raises Stalled when it ended by itself."""
        if not self.runs:
            code = None if self._process is None else self._process.returncode
            raise Stalled(f"the desk ended by itself with {code}: {self._told.read_text()[-500:]}")

    def kill(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()

    def stop(self) -> None:
        """SIGTERM. Raises Stalled unless it ends well."""
        self.check()
        assert self._process is not None
        self._process.terminate()
        try:
            code = self._process.wait(60)
        except subprocess.TimeoutExpired:
            raise Stalled("the desk did not stop within 60 s") from None
        if code != 0:
            raise Stalled(f"the desk stopped with {code}: {self._told.read_text()[-500:]}")
