"""One outage under a running desk: entries refused, exits out at once, and afterwards all three agree again."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager
from typing import Any

from engine import commands as c
from engine.domain.ids import SessionId
from engine.snapshot import Lamp, Procedure
from tests.outage.desk import HOLDER, RESTER, SECOND, RunningDesk, Turns, eventually

SOON = 1.0


def _ended(procedure: Procedure) -> Procedure | None:
    return None if procedure.ok is None else procedure


def _flatten(desk: RunningDesk, session: SessionId, name: str, figures: dict[str, Any]) -> None:
    """Ask for it, and time the first exit request and the broker's confirmation."""
    with Turns() as turns:
        asked = time.monotonic()
        receipt = desk.send(lambda o: c.Flatten(origin=o, session=session))
        left = eventually(lambda: desk.wire.first_exit(asked), lambda: f"no exit left: {desk.procedure(receipt.id)}")
        had = turns.had(asked)
    done = eventually(lambda: _ended(desk.procedure(receipt.id)), "an end")
    figures[f"{name}_first_exit_ms"] = round((left - asked) * 1000)
    figures[f"{name}_flat_ms"] = round((time.monotonic() - asked) * 1000)
    assert done.ok, done
    assert min(left - asked, had) < SOON, figures


def through(desk: RunningDesk, trouble: AbstractContextManager[Any], seconds: float) -> dict[str, Any]:
    """Live through the trouble; figures in ms and s, and AssertionError when a promise was not kept."""
    figures: dict[str, Any] = {"seconds": seconds}
    with trouble:
        began = time.monotonic()
        _flatten(desk, HOLDER, "at_once", figures)
        eventually(lambda: desk.picture().lamps.persistence.lamp is Lamp.ALARM, "the PERSIST lamp")
        figures["lamp_ms"] = round((time.monotonic() - began) * 1000)
        figures["lamp"] = desk.picture().lamps.persistence.text
        eventually(lambda: any("database" in reason for reason in desk.view(RESTER).blocks), "a reason on screen")
        before = len(desk.wire.sent)
        denied = eventually(
            lambda: next((d for d in reversed(desk.view(RESTER).decisions) if "database" in d.reason), None),
            lambda: f"no entry was refused: {desk.view(RESTER).decisions[-4:]}",
        )
        figures["refused"] = denied.reason
        time.sleep(max(0.0, seconds - (time.monotonic() - began) - SOON))
        assert not [kind for _, kind, _ in desk.wire.sent[before:] if kind == "submit"], "an entry left"
        _flatten(desk, SECOND, "late", figures)
        time.sleep(max(0.0, seconds - (time.monotonic() - began)))
    back = time.monotonic()
    eventually(lambda: not desk.picture().persistence_detail, desk.alerts)
    figures["lamp_back_ms"] = round((time.monotonic() - back) * 1000)
    eventually(lambda: not desk.differences(), lambda: "\n".join(desk.differences()))
    figures["agree_ms"] = round((time.monotonic() - back) * 1000)
    sent = len(desk.wire.sent)
    eventually(lambda: any(kind == "submit" for _, kind, _ in desk.wire.sent[sent:]), "entries leave again")
    figures["entries_again_ms"] = round((time.monotonic() - back) * 1000)
    eventually(lambda: not desk.differences(), lambda: "\n".join(desk.differences()))
    figures["loop_lag_max_ms"] = desk.picture().loop_lag.max
    return figures
