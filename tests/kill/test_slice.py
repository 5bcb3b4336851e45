"""Three kills of the real desk, so that the kill test itself stays alive; and that it sees what is taken from it."""

from __future__ import annotations

import contextlib
import sqlite3

import pytest

from tests.kill.check import Verdict
from tests.kill.rounds import Arena, run, tell
from tests.kill.trail import SqliteTrail

DOCTORED = (
    "DELETE FROM fills WHERE number = 1",
    "DELETE FROM intents WHERE kind = 'submit' AND client_id IN (SELECT client_id FROM orders WHERE state = 'filled')",
    "UPDATE orders SET state = 'lost' WHERE state = 'filled'",
    "UPDATE positions SET quantity = '77'",
)


@pytest.mark.slow
def test_killed_three_times_nothing_is_lost_and_a_missing_row_would_be_seen() -> None:
    doctored: list[Verdict] = []

    def afterwards(arena: Arena) -> None:
        """Take something away from a copy, and look."""
        honest = arena.database
        for number, statement in enumerate(DOCTORED):
            copy = arena.desk.state / f"copy-{number}.sqlite3"
            with contextlib.closing(sqlite3.connect(arena.desk.state / "desk.sqlite3")) as database:
                database.execute("VACUUM INTO ?", (str(copy),))
            with contextlib.closing(sqlite3.connect(copy)) as database:
                assert database.execute(statement).rowcount > 0, statement
                database.commit()
            arena.database = SqliteTrail(copy)
            arena.judge()
            doctored.append(arena.result.verdict)
        arena.database = honest
        arena.judge()

    result = run("sqlite", 3, 1, afterwards=afterwards)
    tell(result)
    assert result.is_clean, result.line("sqlite")
    assert result.kills.total() == 3
    assert result.verdict.acknowledged["requests"] >= 3, "each life sent something before it was struck"
    fill, intent, state, position = doctored
    assert fill.lost
    assert intent.lost
    assert state.lost
    assert position.disagreements
