"""`sextant db`: looked at beside a running desk and after it, damaged, and from an older program."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from tests.e2e.conftest import Headless, Sextant
from tests.e2e.desks import at_once
from tests.e2e.terminal import wait_until

RUN = ("--symbol", "ESZ6", "--timeframe", "1s", "--warmup", "5")


def test_a_desk_is_well_while_it_runs_and_after_it(sextant: Sextant, headless: Headless, tmp_path: Path) -> None:
    state = tmp_path / "state"
    where: tuple[str | Path, ...] = ("--state-dir", state)
    missing = sextant("db", "check", *where)
    assert (missing.code, missing.err) == (1, "")
    assert "BAD  database" in missing.out
    assert "There is no database" in sextant("db", "upgrade", *where).line

    desk = headless(*RUN, "--strategy", at_once(tmp_path), *where)
    wait_until(lambda: '"filled"' in sextant("orders", "--json", *where).out, "a filled order")
    beside = sextant("db", "check", "--json", *where)
    nothing = sextant("db", "upgrade", *where)
    done = desk.end()
    assert (done.code, done.err) == (0, "")
    assert done.json["fills"] > 0
    assert (beside.code, beside.err) == (0, ""), beside
    assert {each["ok"] for each in beside.json} == {True}
    assert nothing.out.startswith("Nothing to do: the database has schema ")

    after = sextant("db", "check", *where)
    assert (after.code, after.err) == (0, ""), after
    assert after.out.splitlines()[-1].endswith(": all is well")
    assert all(line.startswith("ok   ") for line in after.out.splitlines()[:-1])

    database = state / "desk.sqlite3"
    connection = sqlite3.connect(database)
    ((page,),) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'fills'").fetchall()
    connection.close()
    with database.open("r+b") as file:
        file.seek((page - 1) * 4096)
        file.write(b"\xff" * 100)
    damaged = sextant("db", "check", *where)
    assert (damaged.code, damaged.err) == (1, "")
    assert "BAD  integrity" in damaged.out
    assert "way out: " in damaged.out
    assert "Traceback" not in damaged.out


def test_what_cannot_be_asked_is_said(sextant: Sextant, tmp_path: Path) -> None:
    assert "Usage: sextant db" in sextant("db").out
    assert sextant("db", "mend").code == 2
    assert sextant("db", "check", "--db", "postgresql://me:hush@h", "--state-dir", tmp_path).code == 2
    gone = sextant("db", "check", "--db", "postgresql://me:hush@127.0.0.1:1/desk", "--state-dir", tmp_path)
    assert gone.code == 1
    assert "hush" not in gone.out + gone.err
