"""A database on a server: whose it is, who may use it, and what is said when it cannot be used."""

from __future__ import annotations

import logging
import re
import sqlite3
from pathlib import Path

import msgspec
import pytest

from engine.domain.postgres_url import PostgresUrl
from engine.errors import DeskUnusable, StoreUnavailable
from engine.persistence import migrate, postgres_session, sqlite_file
from engine.persistence.postgres_session import numbered
from engine.persistence.store import SqlStore
from engine.ports import Committed
from tests.postgres import PASSWORD, Cluster
from tests.unit.persistence.samples import ACCOUNT, order, override, postgres_store, submit

pytestmark = pytest.mark.postgres


async def a_desk(url: PostgresUrl, directory: Path | None = None) -> SqlStore:
    store = postgres_store(url, directory=directory)
    await store.open()
    return store


async def refusal(store: SqlStore) -> str:
    with pytest.raises(DeskUnusable) as refused:
        await store.open()
    said = str(refused.value)
    assert PASSWORD not in said
    assert "\n" not in said
    assert said.endswith(".")
    return said


def relations(postgres: Cluster, url: PostgresUrl) -> list[tuple[object, ...]]:
    return postgres.sql(
        "SELECT n.nspname, c.relname, c.relkind FROM pg_class c RIGHT JOIN pg_namespace n ON n.oid = c.relnamespace "
        "WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' ORDER BY 1, 2",
        url.database,
    )


# ------------------------------------------------------------------------------------------------ schema


async def test_both_databases_have_the_same_tables_and_columns(postgres: Cluster, tmp_path: Path) -> None:
    assert [step.name for step in migrate.migrations(migrate.POSTGRES)] == [
        step.name for step in migrate.migrations(migrate.SQLITE)
    ]
    url = postgres.emptied()
    await (await a_desk(url)).close()
    sqlite_file.create(tmp_path / "desk.db")
    lite = sqlite3.connect(tmp_path / "desk.db", isolation_level=None)
    for step in migrate.migrations():
        for statement, values in migrate.transaction_of(step, 0):
            lite.execute(statement, values)
    tables = lite.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'").fetchall()
    expected = {
        (t, column[1], bool(column[3])) for (t,) in tables for column in lite.execute(f"PRAGMA table_info({t})")
    }
    found = postgres.sql(
        "SELECT table_name, column_name, is_nullable = 'NO' FROM information_schema.columns "
        "WHERE table_schema = 'sextant'",
        url.database,
    )
    # a primary key forbids NULL by itself on a server, and in SQLite only where it says so
    assert {row[:2] for row in found} == {row[:2] for row in expected}
    assert {row for row in expected if row[2]} <= set(found)
    lite.close()


def test_marks_become_numbers_but_not_inside_literals() -> None:
    assert numbered("a = ? AND b = '?' AND c LIKE ? ESCAPE '\\'") == "a = $1 AND b = '?' AND c LIKE $2 ESCAPE '\\'"


async def test_text_with_a_nul_is_kept_as_far_as_it_can_be(postgres: Cluster) -> None:
    store = await a_desk(postgres.emptied())
    intent = submit(reason="half\0word")
    assert await store.commit(intent) == Committed()
    (kept,) = await store.open_orders(ACCOUNT)
    assert kept.reason == "half\N{REPLACEMENT CHARACTER}word"
    await store.close()


# --------------------------------------------------------------------------------------------- ownership


async def test_a_database_of_another_program_is_left_as_it_is(postgres: Cluster) -> None:
    url = postgres.database()
    postgres.sql("CREATE TABLE invoices (number int)", url.database)
    before = relations(postgres, url)
    said = await refusal(postgres_store(url))
    assert f"The database {url.database} on 127.0.0.1 holds tables of another program" in said
    assert relations(postgres, url) == before


async def test_a_newer_or_unmarked_database_is_left_as_it_is(postgres: Cluster) -> None:
    url = postgres.database()
    await (await a_desk(url)).close()
    before = relations(postgres, url)
    postgres.sql("INSERT INTO sextant.migrations VALUES (999, 'later', 0)", url.database)
    for read_only in (False, True):
        assert "was written by a newer Sextant (schema 999" in await refusal(postgres_store(url, read_only=read_only))
    postgres.sql("UPDATE sextant.sextant SET value = 'other' WHERE name = 'product'", url.database)
    assert "does not carry Sextant's mark" in await refusal(postgres_store(url))
    assert relations(postgres, url) == before


async def test_a_second_engine_is_refused_with_the_holders_name(postgres: Cluster, tmp_path: Path) -> None:
    url = postgres.emptied()
    first = await a_desk(url, tmp_path / "one")
    said = await refusal(postgres_store(url, directory=tmp_path / "two"))
    assert re.fullmatch(
        rf"Another desk \(sextant process \d+ on [^)]+\) uses the database {url.database} on 127\.0\.0\.1; "
        r"stop it, or name another database\. If it runs on another machine and has certainly ended, "
        r"start with --take-over\.",
        said,
    )
    other = postgres_store(postgres.database(), directory=tmp_path / "one")
    assert "Another desk" in await refusal(other), "its journal belongs to one desk"
    await first.write(override())
    await first.close()
    second = await a_desk(url, tmp_path / "two")
    await second.close()


async def test_a_reader_neither_makes_nor_locks_nor_migrates(postgres: Cluster) -> None:
    url = postgres.database()
    looking = postgres_store(url, read_only=True)
    assert "There is no desk in the database" in await refusal(looking)
    assert relations(postgres, url) == [("public", None, None)]
    desk = await a_desk(url)
    await desk.commit(submit())
    await looking.open()
    assert await looking.open_orders(ACCOUNT) == (submit().order,)
    with pytest.raises(StoreUnavailable):
        await looking.write(override())
    await looking.close()
    await desk.close()
    postgres.sql("DELETE FROM sextant.migrations", url.database)
    assert "upgrade it with `sextant db upgrade`" in await refusal(postgres_store(url, read_only=True))


async def test_another_database_under_the_same_name_is_not_written(postgres: Cluster) -> None:
    url = postgres.database()
    store = await a_desk(url)
    postgres.sql("UPDATE sextant.sextant SET value = 'a copy' WHERE name = 'identity'", url.database)
    postgres.end_sessions(url)
    with pytest.raises(StoreUnavailable, match="was replaced by another while the desk ran"):
        await store.commit(submit())
    await store.close()


# ------------------------------------------------------------------------------------- what is unreachable


async def test_what_cannot_be_reached_is_said_without_secrets(
    postgres: Cluster, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.DEBUG)
    url = postgres.emptied()
    change = msgspec.structs.replace
    with_tls = change(url, tls=(("sslmode", "require"),))
    for asked, words in (
        (change(url, password=PASSWORD + "x"), "refuses this user, password or connection"),
        (change(url, user="nobody-here"), "refuses this user, password or connection"),
        (change(url, database="nowhere"), "no database of that name; createdb makes one"),
        (change(url, port=1), "connection refused"),
        (change(url, host="/nowhere"), "there is no"),
        (with_tls, "does not offer TLS, which sslmode asks for"),
        (change(url, tls=(("sslmode", "verify-full"), ("sslrootcert", "/nowhere.pem"))), "cannot be used: "),
    ):
        said = await refusal(postgres_store(asked))
        assert said.startswith(f"The database {asked.place} cannot be used: "), said
        assert re.search(words, said), said
    monkeypatch.setattr(postgres_session, "CONNECT_SECONDS", 0.3)
    with postgres.frozen():
        assert "does not answer" in await refusal(postgres_store(url))
    assert PASSWORD not in caplog.text


async def test_a_server_that_may_lose_rows_is_refused(postgres: Cluster) -> None:
    url = postgres.database()
    postgres.sql("ALTER SYSTEM SET fsync = off")
    postgres.sql("SELECT pg_reload_conf()")
    try:
        postgres.await_setting("fsync", "off")
        assert "runs with fsync off and can lose rows" in await refusal(postgres_store(url))
        assert relations(postgres, url) == [("public", None, None)]
    finally:
        postgres.sql("ALTER SYSTEM RESET fsync")
        postgres.sql("SELECT pg_reload_conf()")
        postgres.await_setting("fsync", "on")


async def test_a_role_that_commits_without_sync_commits_with_it(postgres: Cluster) -> None:
    url = postgres.database()
    postgres.sql(f"ALTER DATABASE {url.database} SET synchronous_commit = off")
    store = await a_desk(url)
    assert store._writer is not None
    assert await store._writer._connection.query("SHOW synchronous_commit") == [("on",)]
    await store.close()


async def test_a_user_who_may_not_make_tables_is_told(postgres: Cluster) -> None:
    url = postgres.database()
    postgres.sql(f"CREATE ROLE guest_{url.database} LOGIN PASSWORD 'guest'")
    guest = msgspec.structs.replace(url, user=f"guest_{url.database}", password="guest")
    assert "does not let this user make tables" in await refusal(postgres_store(guest))
    assert relations(postgres, url) == [("public", None, None)]


async def test_orders_sort_by_bytes_as_in_sqlite(postgres: Cluster) -> None:
    store = await a_desk(postgres.emptied())
    names = ["b", "B", "a", "_", "ä"]
    for name in names:
        await store.commit(submit(name))
    found = [each.client_id for each in await store.open_orders(ACCOUNT)]
    assert found == sorted(order(name).client_id for name in names)
    await store.close()


async def test_tls_as_the_url_asks_for_it(postgres: Cluster) -> None:
    with postgres.tls() as is_on:
        if not is_on:
            pytest.skip("TLS was not tested: it takes openssl and a server built with it")
        url, ours, other = postgres.emptied(), str(postgres.folder / "server.crt"), str(postgres.certificate("other"))
        for mode, root in (("disable", ""), ("require", ""), ("verify-ca", ours), ("verify-full", ours)):
            tls = (("sslmode", mode), *((("sslrootcert", root),) if root else ()))
            store = await a_desk(msgspec.structs.replace(url, tls=tls))
            encrypted = await store._read().query("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()")
            assert encrypted == [(mode != "disable",)]
            await store.close()
        stranger = (("sslmode", "verify-full"), ("sslrootcert", other))
        said = await refusal(postgres_store(msgspec.structs.replace(url, tls=stranger)))
        assert "its TLS certificate is not trusted" in said
