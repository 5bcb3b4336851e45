"""What persistence costs here, printed with every run; only the shape is asserted, never the machine's speed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.postgres import Cluster
from tests.unit.persistence.samples import ACCOUNT, postgres_store, sqlite_store, submit

ALONE = 200
BURST = 50


@pytest.mark.slow
async def test_group_commit_beats_one_by_one(tmp_path: Path, record_property: Callable[[str, object], None]) -> None:
    store = sqlite_store(tmp_path / "desk.db")
    await store.open()
    times = []
    for number in range(ALONE):
        start = time.perf_counter()
        await store.commit(submit(f"a{number}"))
        times.append((time.perf_counter() - start) * 1e6)
    one_by_one, together = [], []
    for turn in range(9):
        start = time.perf_counter()
        for number in range(BURST):
            await store.commit(submit(f"s{turn}x{number}"))
        one_by_one.append(time.perf_counter() - start)
        start = time.perf_counter()
        await asyncio.gather(*(store.commit(submit(f"g{turn}x{number}")) for number in range(BURST)))
        together.append(time.perf_counter() - start)
    await store.close()
    times.sort()
    ratio = sorted(a / b for a, b in zip(one_by_one, together, strict=True))[4]
    record_property(
        "figures",
        f"intent commit (SQLite, FULL) p50 {times[ALONE // 2]:.0f} µs, p99 {times[ALONE * 99 // 100]:.0f} µs; burst of "
        f"{BURST}: {sorted(one_by_one)[4] * 1e3:.1f} ms one by one, {sorted(together)[4] * 1e3:.1f} ms as a group "
        f"({ratio:.1f} times faster)",
    )
    assert ratio > 1


@pytest.mark.slow
@pytest.mark.postgres
async def test_an_intent_on_postgresql_beside_sqlite(
    postgres: Cluster, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """One at a time, taking turns, so that both meet the same disk."""
    stores = {
        "SQLite": sqlite_store(tmp_path / "desk.db"),
        f"PostgreSQL {postgres.version}": postgres_store(postgres.emptied()),
    }
    for store in stores.values():
        await store.open()
    said = []
    times: dict[str, list[float]] = {name: [] for name in stores}
    for number in range(ALONE):
        for name, store in stores.items():
            start = time.perf_counter()
            await store.commit(submit(f"a{number}"))
            times[name].append((time.perf_counter() - start) * 1e6)
    for name, store in stores.items():
        start = time.perf_counter()
        await asyncio.gather(*(store.commit(submit(f"g{number}")) for number in range(BURST)))
        burst = (time.perf_counter() - start) * 1e3
        taken = sorted(times[name])
        said.append(
            f"{name} p50 {taken[ALONE // 2]:.0f} µs, p99 {taken[ALONE * 99 // 100]:.0f} µs, burst of {BURST} "
            f"{burst:.1f} ms"
        )
        assert len(await store.open_orders(ACCOUNT)) == ALONE + BURST
        await store.close()
    record_property("figures", f"intent commit in turns: {'; '.join(said)}")
