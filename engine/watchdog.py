"""Interrupts a strategy that runs too long on the engine's thread, so that a sibling's flatten still leaves."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from engine.errors import StrategyFailed


class _Overtime(BaseException):
    """Thrown into the engine's thread; a strategy's own `except Exception` does not catch it."""


class ThreadWatchdog:
    """A thread that waits for the guarded block to end, and raises inside it when it does not in time.

    Uses CPython's PyThreadState_SetAsyncExc, which acts between two bytecodes: a call that blocks inside C is
    interrupted when it returns.
    """

    def __init__(self) -> None:
        self._lock = threading.Condition()
        self._guarded: int | None = None
        self._generation = 0
        self._seconds = 0.0
        self._fired = False
        self._stopping = False
        self._thread = threading.Thread(target=self._watch, name="strategy watchdog", daemon=True)
        self._thread.start()

    @contextmanager
    def guard(self, seconds: float) -> Iterator[None]:
        """Raise StrategyFailed in the block once it ran longer than `seconds` of real time."""
        with self._lock:
            self._generation += 1
            self._guarded = threading.get_ident()
            self._seconds = seconds
            self._fired = False
            self._lock.notify()
        try:
            try:
                yield
            finally:
                self._disarm()
        except _Overtime:
            raise StrategyFailed(f"it ran longer than {seconds * 1000:.0f} ms and was interrupted") from None

    def _disarm(self) -> None:
        with self._lock:
            thread, self._guarded = self._guarded, None
            self._lock.notify()
            if self._fired and thread is not None:
                # the exception may still be pending: take it back so that it cannot hit what runs next
                ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), None)

    def _watch(self) -> None:
        with self._lock:
            while not self._stopping:
                if self._guarded is None or self._fired:
                    self._lock.wait()
                    continue
                thread, generation = self._guarded, self._generation
                ended = self._lock.wait_for(lambda seen=generation: self._is_over(seen), self._seconds)  # type: ignore[misc]
                if not ended:
                    self._fired = True
                    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(_Overtime))

    def _is_over(self, generation: int) -> bool:
        return self._stopping or self._generation != generation or self._guarded is None

    def close(self) -> None:
        """End the thread."""
        with self._lock:
            self._stopping = True
            self._lock.notify()
        self._thread.join()
