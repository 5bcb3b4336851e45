"""Interrupts a strategy that runs too long on the engine's thread, so that a sibling's flatten still leaves."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable
from typing import TypeVar

from engine.errors import StrategyFailed

T = TypeVar("T")


class _Overtime(BaseException):
    """Thrown into the engine's thread; a strategy's own `except Exception` does not catch it."""


class _Armed:
    """One guarded call: whose thread, and how long it may take."""

    def __init__(self, seconds: float) -> None:
        self.thread = threading.get_ident()
        self.seconds = seconds


class ThreadWatchdog:
    """A thread that waits for the guarded call to end, and raises inside it when it does not in time.

    Uses CPython's PyThreadState_SetAsyncExc, which acts between two bytecodes: a call that blocks inside C is
    interrupted when it returns. The exception may come at any bytecode until the call is disarmed, so disarming
    takes no lock (one held by an interrupted `acquire` would never be released) and the call is made in here: a
    context manager could be hit on the way into its own `__exit__`, where nothing catches it.
    """

    def __init__(self) -> None:
        self._lock = threading.Condition()
        self._armed: _Armed | None = None
        self._firing = False
        self._fired = False
        self._stopping = False
        self._thread = threading.Thread(target=self._watch, name="strategy watchdog", daemon=True)
        self._thread.start()

    def run(self, seconds: float, call: Callable[[], T]) -> T:
        """The result of `call`; raises StrategyFailed in it once it ran longer than `seconds` of real time."""
        with self._lock:
            self._fired = False
            self._armed = _Armed(seconds)
            self._lock.notify()
        try:
            try:
                return call()
            finally:
                self._disarm()
        except _Overtime:
            self._disarm()
            raise StrategyFailed(f"it ran longer than {seconds * 1000:.0f} ms and was interrupted") from None

    def _disarm(self) -> None:
        """Afterwards nothing is thrown and nothing pends: either the watch sees this, or we see it firing."""
        self._armed = None
        while self._firing:
            pass
        if self._fired:
            # the exception may still be pending: take it back so that it cannot hit what runs next
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(threading.get_ident()), None)

    def _watch(self) -> None:
        with self._lock:
            while not self._stopping:
                armed = self._armed
                if armed is None:
                    self._lock.wait()
                elif not self._lock.wait_for(lambda seen=armed: self._is_over(seen), armed.seconds):  # type: ignore[misc]
                    self._fire(armed)
                    self._lock.wait_for(lambda seen=armed: self._is_over(seen))  # type: ignore[misc]

    def _fire(self, armed: _Armed) -> None:
        self._firing = True
        if self._armed is armed:
            self._fired = True
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(armed.thread), ctypes.py_object(_Overtime))
        self._firing = False

    def _is_over(self, armed: _Armed) -> bool:
        return self._stopping or self._armed is not armed

    def close(self) -> None:
        """End the thread."""
        with self._lock:
            self._stopping = True
            self._lock.notify()
        self._thread.join()
