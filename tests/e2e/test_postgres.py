"""The installed program with its audit trail on a PostgreSQL server."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.conftest import Headless, Sextant
from tests.e2e.desks import at_once
from tests.e2e.terminal import wait_until
from tests.postgres import PASSWORD, Cluster

pytestmark = pytest.mark.postgres
MARKET = ("--symbol", "ESZ6", "--timeframe", "1s", "--warmup", "5")
SHORT = ("run", "--headless", "--json", *MARKET)


def database(postgres: Cluster, environment: dict[str, str]) -> str:
    """A database's URL without its password, which stands in the user's ~/.pgpass."""
    url = postgres.database()
    pgpass = Path(environment["HOME"], ".pgpass")
    pgpass.write_text(f"127.0.0.1:{postgres.port}:*:{url.user}:{PASSWORD}\n")
    pgpass.chmod(0o600)
    return url.shown


def test_a_desk_runs_is_read_beside_and_is_found_again(
    postgres: Cluster, sextant: Sextant, headless: Headless, environment: dict[str, str], tmp_path: Path
) -> None:
    where: tuple[str | Path, ...] = ("--db", database(postgres, environment), "--state-dir", tmp_path / "state")
    before = sextant("doctor", *where)
    assert before.code == 0
    assert "holds no desk yet; one will be made (PostgreSQL" in before.out
    assert "There is no desk in the database" in sextant("orders", *where).line

    desk = headless(*MARKET, "--strategy", at_once(tmp_path), *where)
    wait_until(lambda: "client_id" in sextant("orders", "--json", *where).out, "the listing reads beside the desk")
    second = sextant(*SHORT, "--for", "1", "--db", where[1], "--state-dir", tmp_path / "other")
    done = desk.end()
    assert (done.code, done.err) == (0, "")
    assert second.code == 3
    assert "Another desk (sextant process" in second.line

    kept = {path.name for path in (tmp_path / "state").iterdir()}
    assert "desk.lock" in kept
    assert "desk.sqlite3" not in kept
    first = sextant("orders", "--json", *where).json
    again = sextant(*SHORT, "--strategy", at_once(tmp_path), "--for", "4", *where)
    assert (again.code, again.err) == (0, "")
    ids = [order["client_id"] for order in sextant("orders", "--json", *where).json]
    assert {order["client_id"] for order in first} <= set(ids)
    assert len(ids) == len(set(ids))
    assert sextant("doctor", *where).code == 0
    for text in (
        done.out,
        done.err,
        before.out,
        *(p.read_text("utf-8", "replace") for p in (tmp_path / "state").glob("*.log")),
    ):
        assert PASSWORD not in text


def test_what_cannot_be_reached_ends_in_one_sentence(
    postgres: Cluster, sextant: Sextant, environment: dict[str, str], tmp_path: Path
) -> None:
    url = database(postgres, environment)
    wrong = url.replace("desk@", "desk:hush-4711@")
    for command in (SHORT, ("orders",)):
        refused = sextant(*command, "--db", wrong, "--state-dir", tmp_path / "state")
        assert refused.code == 3
        assert "refuses this user, password or connection" in refused.line
        assert "hush" not in refused.line
    assert sextant(*SHORT, "--db", "postgresql://me:hush@h", "--state-dir", tmp_path / "state").code == 2
