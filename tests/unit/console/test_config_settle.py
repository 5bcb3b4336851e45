"""Options over environment over file over defaults; and what a replay makes of them."""

from decimal import Decimal
from pathlib import Path

import pytest

from console.config import (
    AS_FAST_AS_IT_GOES,
    DeskSettings,
    FeedKind,
    PostgresUrl,
    RunOptions,
    SqliteFile,
    TapeFacts,
    describe,
    load,
    needs_tape_facts,
    settle,
    state_home,
)
from console.config_text import shown
from console.process_log import redacted
from engine.domain.market import Timeframe
from engine.domain.settings import RiskSize
from engine.errors import ConfigurationError

EXAMPLE = Path(__file__).resolve().parents[3] / "sextant.example.toml"
HOME = {"HOME": "/home/me", "USER": "me"}
FACTS = TapeFacts(tick_size=Decimal("0.00001"), price=Decimal("1.12"), stale_after_ms=30_000)


@pytest.fixture
def tape(tmp_path: Path) -> Path:
    file = tmp_path / "eurusd.csv"
    file.write_text("timestamp,bid,ask\n")
    return file


@pytest.fixture(autouse=True)
def temporary_directories_stay_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))


def refusal(options: RunOptions, environ: dict[str, str] = HOME, tape: TapeFacts | None = None) -> str:
    with pytest.raises(ConfigurationError) as caught:
        settle(options, environ, tape=tape)
    return str(caught.value)


def test_nothing_given_is_the_embedded_desk() -> None:
    desk = settle(RunOptions(), HOME)
    assert [session.symbol for session in desk.sessions] == ["ESZ6", "CLF7", "NQZ6", "6EZ6"]
    assert desk.feed is FeedKind.SYNTHETIC
    assert desk.database == SqliteFile(Path("/home/me/.local/state/sextant/desk.sqlite3"))
    assert (desk.operator, desk.temporary) == ("me", False)


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"HOME": "/h"}, "/h/.local/state/sextant"),
        ({"HOME": "/h", "XDG_STATE_HOME": "/x"}, "/x/sextant"),
        ({"HOME": "/h", "XDG_STATE_HOME": "relative"}, "/h/.local/state/sextant"),
    ],
)
def test_the_state_directory_follows_the_xdg_rules(environ: dict[str, str], expected: str) -> None:
    assert state_home(environ) == Path(expected)


def test_options_win_over_the_environment_and_that_over_the_file(tmp_path: Path) -> None:
    file = tmp_path / "sextant.toml"
    file.write_text(EXAMPLE.read_text("utf-8").replace("[desk]", '[desk]\nstate_dir = "mine"\ndb = "audit.sqlite3"', 1))

    def places(options: RunOptions, **environ: str) -> tuple[str, str]:
        desk = settle(options, {**HOME, "SEXTANT_CONFIG": str(file), **environ})
        return str(desk.state_dir), shown(desk.database)

    assert places(RunOptions()) == (f"{tmp_path}/mine", f"{tmp_path}/audit.sqlite3")
    assert places(RunOptions(), SEXTANT_STATE_DIR="/e") == ("/e", "/e/desk.sqlite3")
    assert places(RunOptions(), SEXTANT_STATE_DIR="/e", SEXTANT_DB="/d.db") == ("/e", "/d.db")
    assert places(RunOptions(state_dir=Path("/o")), SEXTANT_STATE_DIR="/e") == ("/o", "/o/desk.sqlite3")
    assert places(RunOptions(db="/o.db"), SEXTANT_DB="/d.db") == (f"{tmp_path}/mine", "/o.db")
    assert places(RunOptions(db="sqlite:////o.db")) == (f"{tmp_path}/mine", "/o.db")


@pytest.mark.parametrize(
    ("written", "words"),
    [
        ("postgresql://me:hush@host", "--db must be written postgresql://USER@HOST/DATABASE"),
        ("postgres://me:hush@host/a#b", "must be written postgresql://"),
        ("postgresql+asyncpg://me:hush@host/desk", "must be written postgresql://"),
        ("postgresql://me:hush@one,two/desk", "names several servers"),
        ("mysql://me:hush@host/desk", "--db must be a file such as desk.sqlite3"),
        ("sqlite://hush", "must be a file"),
        ("", "--db must be 1 to 200 printable characters"),
    ],
)
def test_databases_that_cannot_be_are_refused_without_repeating_the_url(written: str, words: str) -> None:
    said = refusal(RunOptions(db=written))
    assert words in said
    assert "hush" not in said


def test_a_postgresql_database_is_named_by_a_url_whose_password_is_hidden(tmp_path: Path) -> None:
    written = "postgresql://me:hush-4711@db.example:6543/desk?sslmode=verify-full"
    desk = settle(RunOptions(db=written, state_dir=tmp_path), HOME)
    assert desk.state_dir == tmp_path, "journal, latches and locks stay here"
    assert isinstance(desk.database, PostgresUrl)
    assert (desk.database.place, desk.database.password) == ("desk on db.example", "hush-4711")
    printed = "\n".join(describe(desk))
    assert 'db = "postgresql://me@db.example:6543/desk?sslmode=verify-full"' in printed
    assert "hush" not in f"{printed} {desk!r} {desk.database}"
    assert "hush" not in redacted("it said hush-4711 by itself")
    assert settle(RunOptions(), {**HOME, "SEXTANT_DB": written}).database == desk.database


def test_a_symbol_leaves_its_sessions_and_a_strategy_takes_their_place() -> None:
    desk = settle(RunOptions(symbol="ESZ6", timeframe=Timeframe(5_000), strategy="donchian_breakout", warmup=3), HOME)
    (session,) = desk.sessions
    assert (session.symbol, session.strategy, session.arguments) == ("ESZ6", "donchian_breakout", {})
    assert (session.timeframe, session.warmup) == (Timeframe(5_000), 3)
    assert settle(RunOptions(strategy="ema_cross"), HOME).sessions[0].arguments == {"fast": 3, "slow": 8, "stop_atr": 4}
    assert "no session of the embedded paper desk trades it; did you mean ESZ6?" in refusal(RunOptions(symbol="ESZ7"))
    assert refusal(RunOptions(symbol="a b")).startswith("--symbol must be a symbol such as")


def test_a_strategy_file_is_looked_for_where_one_stands(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert settle(RunOptions(strategy="mine.py:Mine"), HOME).sessions[0].strategy == f"{tmp_path}/mine.py:Mine"


@pytest.mark.parametrize("written", ["unix:/run/x.sock", "/run/x.sock", "unix:/run/sub/../x.sock"])
def test_an_exchange_process_is_named_by_its_socket(written: str) -> None:
    assert settle(RunOptions(exchange=written), HOME).exchange == Path("/run/x.sock")
    assert settle(RunOptions(), HOME).exchange is None


def test_the_exchange_of_the_options_wins_over_the_files_and_a_recording_has_its_own(
    tape: Path, tmp_path: Path
) -> None:
    file = tmp_path / "sextant.toml"
    file.write_text(EXAMPLE.read_text().replace("[desk]", '[desk]\nexchange = "unix:mine.sock"'))
    assert settle(RunOptions(config=file), HOME).exchange == tmp_path / "mine.sock"
    assert settle(RunOptions(config=file, exchange="/else.sock"), HOME).exchange == Path("/else.sock")
    assert settle(RunOptions(config=file, replay=tape, symbol="CLF7"), HOME).exchange is None
    assert "exclude each other" in refusal(RunOptions(config=file, replay=tape, symbol="CLF7", exchange="/else.sock"))
    assert refusal(RunOptions(exchange="tcp:host")).startswith("--exchange must be a socket")


def test_a_replay_alone_makes_one_complete_session(tape: Path, tmp_path: Path) -> None:
    options = RunOptions(replay=tape, symbol="EURUSD", speed=AS_FAST_AS_IT_GOES)
    assert needs_tape_facts(options, HOME)
    desk = settle(options, {**HOME, "SEXTANT_STATE_DIR": "/live", "SEXTANT_DB": "/live/desk.sqlite3"}, tape=FACTS)
    (session,), (instrument,), (account,) = desk.sessions, desk.instruments, desk.accounts
    assert (desk.feed, desk.replay, desk.replay_symbol) == (FeedKind.REPLAY, tape, "EURUSD")
    assert (session.strategy, session.warmup, str(session.timeframe)) == ("ema_cross", 20, "1m")
    assert session.arguments == {"fast": 5, "slow": 13, "stop_atr": Decimal(2)}
    assert session.sizing == RiskSize(Decimal(1))
    assert (instrument.tick_size, instrument.point_value) == (FACTS.tick_size, Decimal(1))
    assert instrument.stale_after_ms == 30_000
    assert account.equity == 100_000
    assert desk.temporary
    assert desk.state_dir.parent == tmp_path
    assert desk.state_dir.stat().st_mode & 0o777 == 0o700
    assert desk.database == SqliteFile(desk.state_dir / "desk.sqlite3")


@pytest.mark.parametrize("price", [Decimal("1.12"), Decimal(40_000)])
def test_one_percent_of_a_replays_equity_is_tradable_at_any_price(tape: Path, price: Decimal) -> None:
    desk = settle(RunOptions(replay=tape, symbol="X"), HOME, tape=TapeFacts(tick_size=price / 100_000, price=price))
    (session,), (instrument,), (account,) = desk.sessions, desk.instruments, desk.accounts
    for stop in (price / 100_000, price / 100, price):  # from one tick to all of it
        quantity = instrument.whole_size(account.equity / 100 / stop)
        assert 0 < quantity <= session.limits.max_order_size
        assert abs(quantity * stop / account.equity - Decimal("0.01")) < Decimal("0.0005")


def test_a_named_state_directory_is_kept_in_a_replay(tape: Path) -> None:
    desk = settle(RunOptions(replay=tape, symbol="EURUSD", state_dir=Path("/kept")), HOME, tape=FACTS)
    assert (desk.state_dir, desk.temporary) == (Path("/kept"), False)


def test_a_replay_that_cannot_be_is_one_sentence(tape: Path, tmp_path: Path) -> None:
    assert refusal(RunOptions(replay=tape)).startswith("--replay needs --symbol")
    assert refusal(RunOptions(replay=tmp_path / "no.csv", symbol="X")).endswith("does not exist; correct --replay")
    assert "is a directory, not a recording" in refusal(RunOptions(replay=tmp_path, symbol="X"))
    assert "say which with --symbol" in refusal(RunOptions(replay=tape, config=EXAMPLE))
    assert refusal(RunOptions(speed=2.0)).startswith("--speed sets the pace of a recording")
    assert refusal(RunOptions(live=True)).startswith("--live needs an account with live = true")
    assert list(tmp_path.glob("sextant-replay-*")) == [], "nothing half-made"


def test_a_replay_with_a_configuration_runs_the_sessions_of_its_symbol(tape: Path) -> None:
    options = RunOptions(replay=tape, config=EXAMPLE, symbol="CLF7")
    assert not needs_tape_facts(options, HOME)
    desk = settle(options, HOME)
    assert [session.id for session in desk.sessions] == ["cl-breakout"]
    assert (desk.feed, desk.replay_symbol, desk.temporary) == (FeedKind.REPLAY, "CLF7", True)


def test_a_file_may_name_its_own_recording(tape: Path, tmp_path: Path) -> None:
    def written(extra: str) -> DeskSettings:
        file = tmp_path / "sextant.toml"
        text = EXAMPLE.read_text("utf-8").replace(
            'feed = "synthetic" ', f'feed = "replay"\nreplay = "eurusd.csv"\n{extra} '
        )
        file.write_text(text)
        return settle(RunOptions(config=file, speed=5), HOME)

    desk = written('replay_symbol = "NQZ6"')
    assert (desk.replay, [session.symbol for session in desk.sessions]) == (tape, ["NQZ6"])
    assert not desk.temporary
    with pytest.raises(ConfigurationError, match="say which with --symbol"):
        written("")


def test_loading_needs_no_options() -> None:
    assert load(EXAMPLE, HOME).origin == str(EXAMPLE)
