"""SIGKILL while rows are written: every acknowledged one is there afterwards, and the file is whole."""

from __future__ import annotations

import os
import random
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from engine.queries import JournalAnswer, JournalPage
from tests.unit.persistence.samples import sqlite_store

KILLS = 6
WRITER = """
import asyncio, sys
from pathlib import Path
from tests.unit.persistence.samples import booked, fill, override, sqlite_store, submit

async def main(path, life):
    store = sqlite_store(Path(path), life=life)
    await store.open()

    async def one(number):
        name = f"{life}x{number}"
        await store.commit(submit(name))
        print("order", submit(name).order.client_id, flush=True)
        store.record(booked(fill(name)))
        await store.write(override(name))
        print("override", name, flush=True)

    number = 0
    while True:
        await asyncio.gather(*(one(number + each) for each in range(8)))
        number += 8

asyncio.run(main(*sys.argv[1:]))
"""


def a_life(path: Path, name: str, acknowledgements: int) -> list[str]:
    """What a desk said it had made durable before SIGKILL met it in full work."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[3])}
    command = [sys.executable, "-c", WRITER, str(path), name]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as desk:
        assert desk.stdout is not None
        lines = [desk.stdout.readline() for _ in range(acknowledgements)]
        desk.kill()
        return lines + desk.stdout.read().splitlines(keepends=True)


@pytest.mark.slow
async def test_acknowledged_rows_survive_sigkill(tmp_path: Path) -> None:
    path = tmp_path / "desk.db"
    moments = random.Random(7)
    acknowledged: list[tuple[str, str]] = []
    for life in range(KILLS):
        lines = a_life(path, f"life{life}", moments.randint(20, 200))
        said = [line.split() for line in lines if line.endswith("\n")]
        assert len(said) >= 20, "the writer died by itself"
        acknowledged += [(kind, name) for kind, name in said]
    store = sqlite_store(path)
    await store.open()
    journal = await store._read().query("SELECT kind, subject FROM log")
    missing = set(acknowledged) - set(journal)
    assert missing == set()
    page = await store.answer(JournalPage())
    assert isinstance(page, JournalAnswer)
    jobs = await store._read().query("SELECT count(*) FROM jobs WHERE state = 'pending'")
    assert jobs == [(1,)], "the fills' own transactions queued the job"
    await store.close()
    checked = sqlite3.connect(path)
    assert checked.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    checked.close()
