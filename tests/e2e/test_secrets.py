"""Secrets everywhere they may stand, errors forced, a hostile umask: nothing of them is kept, and nobody else reads."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.domain.postgres_url import PostgresUrl
from tests.e2e.conftest import Headless, Open, Sextant
from tests.e2e.desks import LIMITS, SCREENS
from tests.e2e.terminal import wait_until
from tests.postgres import PASSWORD, Cluster

pytestmark = pytest.mark.postgres

STRATEGY = '''
from decimal import Decimal

from engine.domain.decisions import Intent, Nothing, Submit
from engine.domain.orders import Side


class Clumsy:
    """Enters at once; then fails with everything it holds in its locals."""

    def __init__(self, api_key, distance="0.005"):
        self.api_key, self.distance = api_key, Decimal(distance)

    def initial(self):
        return 0

    def decide(self, context):
        held = self.api_key
        if context.position.quantity:
            raise RuntimeError("the strategy is clumsy")
        if context.warming or context.orders:
            return Nothing(state=0, reason="waits")
        stop = context.candles[-1].close * (1 - self.distance)
        return Submit(state=0, intent=Intent.ENTER, side=Side.BUY, stop_loss=context.instrument.nearest(stop))
'''
DESK = """
[desk]
db = "{url}"
state_dir = "{state}"

[accounts.paper]
equity = 250_000

[instruments.ESZ6]
tick_size = 0.25
point_value = 50

[sessions.es]
account = "paper"
symbol = "ESZ6"
strategy = "{strategy}:Clumsy"
arguments = {{ api_key = "canary-argument-4714" }}
timeframe = "1s"
warmup = 5
sizing = {{ quantity = 1 }}
"""
HELP = "scroll · Esc close"
ENVIRONMENT = {
    "BROKER_TOKEN": "canary-environment-4712",
    "PGPASSWORD": "canary-unused-4713",  # the URL's own password comes first
    "AUTHORIZATION": "Bearer canary-header-4715",
}


def texts(*folders: Path) -> Iterator[tuple[str, str]]:
    for folder in folders:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                yield str(path), path.read_bytes().decode("utf-8", "replace")


def rows(postgres: Cluster, database: str) -> Iterator[tuple[str, str]]:
    tables = postgres.sql("SELECT tablename FROM pg_tables WHERE schemaname = 'sextant'", database)
    for (table,) in tables:
        for (row,) in postgres.sql(f"SELECT t::text FROM sextant.{table} AS t", database):
            yield table, row


def desk_with_secrets(url: PostgresUrl, outside: Path, state: Path) -> Path:
    """The configuration of a desk that holds a secret wherever it can hold one."""
    outside.mkdir()
    clumsy = outside / "clumsy.py"
    clumsy.write_text(STRATEGY)
    clumsy.chmod(0o600)
    config = outside / "sextant.toml"
    written = url.shown.replace(f"{url.user}@", f"{url.user}:{PASSWORD}@")
    config.write_text(DESK.format(url=written, state=state, strategy=clumsy) + LIMITS.format(name="es"))
    config.chmod(0o600)
    return config


def test_z1_no_secret_is_kept_and_no_file_is_open_to_others(
    postgres: Cluster, sextant: Sextant, headless: Headless, environment: dict[str, str], tmp_path: Path
) -> None:
    url = postgres.database()
    state, outside = tmp_path / "state", tmp_path / "outside"
    config = desk_with_secrets(url, outside, state)
    environment |= ENVIRONMENT
    where: tuple[str | Path, ...] = ("--config", config)
    desk = headless(*where, umask=0)
    wait_until(lambda: "client_id" in sextant("orders", "--json", *where).out, "an order")
    assert postgres.end_sessions(url) > 0  # under its feet
    wait_until(lambda: "is reached again" in "".join(text for _, text in texts(state)), "a reconnection")
    told = "the strategy is clumsy"
    wait_until(lambda: any(told in row for _, row in rows(postgres, url.database)), "the strategy's failure is told")
    second = sextant("run", "--headless", "--for", "1", *where)
    done = desk.end()
    assert done.code == 0, done
    assert second.code == 3

    kept = list(rows(postgres, url.database))
    assert any("api_key" in row and "***" in row for _, row in kept), "the settings are kept without it"
    written_out = [*texts(state, Path(environment["HOME"]))]
    assert any("sextant.log" in name for name, _ in written_out)
    said = [("stdout", done.out), ("stderr", done.err), ("second", second.out + second.err)]
    for listing in (("orders",), ("journal",), ("sessions", "--json"), ("db", "check"), ("db", "check", "--json")):
        done = sextant(*listing, *where)
        said.append((" ".join(listing), done.out + done.err))
    for place, text in (*kept, *written_out, *said):
        assert "canary" not in text, place

    private = [state, *state.rglob("*"), *(Path(environment["HOME"]) / ".local").rglob("sextant/**/*")]
    assert len(private) > 5
    for path in private:
        mode = stat.S_IMODE(path.lstat().st_mode)
        assert mode == (0o700 if path.is_dir() else 0o600), f"{path} {mode:o}"


def test_z1_no_secret_is_drawn_on_any_screen_while_things_fail(
    postgres: Cluster, terminal: Open, environment: dict[str, str], tmp_path: Path
) -> None:
    url = postgres.database()
    config = desk_with_secrets(url, tmp_path / "outside", tmp_path / "state")
    environment |= ENVIRONMENT
    desk = terminal(140, 40)
    desk.run("run", "--config", str(config))
    seen = [desk.wait_for("the strategy is clumsy").string]
    assert postgres.end_sessions(url) > 0
    for key, words in (*SCREENS.items(), ("?", HELP)):
        desk.press(key)
        seen.append(desk.wait_for(words).string)
    desk.escape(HELP)
    desk.press("C-p")
    seen.append(desk.wait_for("Search for commands").string)
    desk.escape("Search for commands")
    desk.press("q")
    seen.append(desk.wait_for("Quit: stop the desk").string)
    desk.press("y")
    assert desk.ended() == 0
    seen.append(desk.screen())
    for text in seen:
        assert "canary" not in text, text
        assert PASSWORD not in text, text
