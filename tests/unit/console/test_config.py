"""sextant.toml: what loads, what is refused, and that every refusal names file, line and key."""

import re
from decimal import Decimal
from pathlib import Path

import pytest
from msgspec.structs import replace

from console.config import KEYS, DeskSettings, FeedKind, SqliteFile, default_desk, describe, load, parse
from engine.domain.calendar import Calendar
from engine.domain.settings import EntryWindow, FixedSize, Protection, RiskSize, ShutdownPolicy
from engine.errors import ConfigurationError

ROOT = Path(__file__).resolve().parents[3]
ENVIRON = {"HOME": "/home/me", "USER": "me"}

DESK = """\
[desk]
title = "Mine"

[portfolio]
warn = 6
block = 8

[accounts.paper]
equity = 100_000

[instruments.ESZ6]
tick_size = 0.25
point_value = 50
group = "us-index"

[sessions.es]
account = "paper"
symbol = "ESZ6"
strategy = "ema_cross"
sizing = { quantity = 1 }

[sessions.es.limits]
max_order_size = 2
max_position_size = 4
entries_per_minute = 5
entries_per_day = 50
price_collar = 0.02
max_daily_loss = 2_000
worst_case_per_contract = 2_500
"""


def read(text: str) -> DeskSettings:
    return parse(text, "sextant.toml", Path("/etc/desk"), ENVIRON)


def refusal(text: str) -> str:
    with pytest.raises(ConfigurationError) as caught:
        read(text)
    return str(caught.value)


def test_a_small_desk_loads_with_every_default_settled() -> None:
    desk = read(DESK)
    assert (desk.title, desk.feed, desk.seed) == ("Mine", FeedKind.SYNTHETIC, 7)
    assert desk.state_dir == Path("/home/me/.local/state/sextant")
    assert desk.database == SqliteFile(Path("/home/me/.local/state/sextant/desk.sqlite3"))
    assert desk.shutdown is ShutdownPolicy.CANCEL_ENTRIES
    assert desk.operator == "me"
    (session,) = desk.sessions
    assert (session.id, session.account, session.symbol) == ("es", "paper", "ESZ6")
    assert str(session.timeframe) == "1m"
    assert session.sizing == FixedSize(Decimal(1))
    assert session.protection is Protection.STOP


def test_no_float_ever_touches_a_price_or_money() -> None:
    desk = read(DESK.replace("tick_size = 0.25", "tick_size = 0.1").replace("0.02", '"0.030"'))
    assert desk.instruments[0].tick_size == Decimal("0.1")
    assert desk.sessions[0].limits.price_collar == Decimal("0.03")


def test_the_richer_values_are_read() -> None:
    desk = read(
        DESK.replace('group = "us-index"', 'stale_after = 7.5\n[instruments.ESZ6.calendar]\nzone = "America/Chicago"\n'
        'hours = ["Sun 17:00-Mon 16:00", "Tue 09:30 - 16:00"]\nday_rolls_at = "17:00"\nholidays = [2026-12-25]')
        .replace("sizing = { quantity = 1 }", "sizing.risk_percent = 0.5\ntimeframe = '5m'\nforce_exit_after = 90")
        + 'entry_window = "22:30-02:00"\nflat_by = 15:55:00\n'
    )  # fmt: skip
    (instrument,), (session,) = desk.instruments, desk.sessions
    assert instrument.stale_after_ms == 7_500
    assert isinstance(instrument.calendar, Calendar)
    assert instrument.calendar.open_minutes == ((1440 + 570, 1440 + 960), (6 * 1440 + 1020, 7 * 1440 + 960))
    assert instrument.calendar.day_rolls_at == 17 * 60
    assert session.sizing == RiskSize(Decimal("0.5"))
    assert session.force_exit_after_s == 90.0
    window = session.limits.entry_window
    assert isinstance(window, EntryWindow)
    assert f"{window.opens:%H:%M} {window.closes:%H:%M} {session.limits.flat_by:%H:%M}" == "22:30 02:00 15:55"


def test_a_relative_path_starts_at_the_file_and_a_strategy_file_becomes_absolute() -> None:
    desk = read(DESK.replace('"ema_cross"', '"mine/strategy.py:Mine"').replace("[desk]", '[desk]\nstate_dir = "var"'))
    assert desk.state_dir == Path("/etc/desk/var")
    assert desk.sessions[0].strategy == "/etc/desk/mine/strategy.py:Mine"


# (what to replace, by what, the key's place, the words that must be in the sentence)
BAD: list[tuple[str, str, str, str]] = [
    # unknown and mistyped
    ("title =", "titel =", "2: desk.titel", "is not a setting; did you mean title?"),
    ("[portfolio]", "[portfolios]", "4: portfolios", "did you mean portfolio?"),
    ("max_order_size", "max-order-size", "23: sessions.es.limits.max-order-size", "did you mean max_order_size?"),
    ("max_order_size = 2", "max_orders = 2", "23: sessions.es.limits.max_orders", "is not a setting"),
    ("{ quantity", "{ risk_percnt = 1, quantity", "20: sessions.es.sizing.risk_percnt", "did you mean risk_percent?"),
    ('title = "Mine"', "numbers = { trys = 3 }", "2: desk.numbers.trys", "did you mean tries?"),
    ("warn = 6", "wobble = 6", "5: portfolio.wobble", "use one of: block, currency"),
    # wrong types
    ('title = "Mine"', "title = 3", "2: desk.title", "must be text in quotes, not 3"),
    ('title = "Mine"', 'title = "a\\u001bb"', "2: desk.title", "printable characters"),
    ("[portfolio]\nwarn = 6\nblock = 8", "portfolio = 3", "4: desk.portfolio", "is not a setting"),
    ("equity = 100_000", "equity = [1]", "9: accounts.paper.equity", "must be a number, not a list"),
    ("equity = 100_000", "equity = true", "9: accounts.paper.equity", "must be a number, not true or false"),
    ("equity = 100_000", 'equity = "lots"', "9: accounts.paper.equity", "must be a number such as"),
    ("equity = 100_000", "equity = 2026-01-01", "9: accounts.paper.equity", "not a date or time"),
    ("equity = 100_000", 'live = "no"', "9: accounts.paper.live", 'must be true or false, not "no"'),
    ("entries_per_day = 50", "entries_per_day = 50.5", "26: sessions.es.limits.entries_per_day", "whole number"),
    ("\n[sessions.es.limits]", "limits = 3\n[sessions.xx]", "21: sessions.es.limits", "must be a table, not a number"),
    # not finite, out of range, impossible
    ("equity = 100_000", "equity = nan", "9: accounts.paper.equity", "must be a finite number, not NaN"),
    ("tick_size = 0.25", "tick_size = inf", "12: instruments.ESZ6.tick_size", "finite number"),
    ("tick_size = 0.25", 'tick_size = "nan"', "12: instruments.ESZ6.tick_size", "must be a number such as"),
    ("tick_size = 0.25", "tick_size = 0", "12: instruments.ESZ6.tick_size", "must be above 0, not 0"),
    ("tick_size = 0.25", "tick_size = 1e-99", "12: instruments.ESZ6.tick_size", "must lie between"),
    ("max_daily_loss = 2_000", "max_daily_loss = -5", "28: sessions.es.limits.max_daily_loss", "above 0, not -5"),
    ("price_collar = 0.02", "price_collar = 2", "27: sessions.es.limits.price_collar", "at most 1, not 2"),
    ('title = "Mine"', "numbers = { lease = 9 }", "2: desk.numbers.lease", "must outlast three renewals"),
    ("max_order_size = 2", "max_order_size = 5", "23: sessions.es.limits.max_order_size", "makes no sense"),
    ("entries_per_day = 50", "entries_per_day = 4", "25: sessions.es.limits.entries_per_minute", "makes no sense"),
    ("warn = 6", "warn = 8", "5: portfolio.warn", "warn (8 %) must lie below block (8 %)"),
    ("block = 8", "block = 8\nrelease = 9", "7: portfolio.release", "must be smaller than block"),
    ("block = 8", "block = 8\nrelease = 8", "7: portfolio.release", "must be smaller than block"),
    ("warn = 6\nblock = 8", "warn = 0.2\nblock = 0.5", "6: portfolio.block", "release (0.5) must be smaller"),
    ("block = 8", "block = 8\ngroups.us-index = 0.5", "7: portfolio.groups.us-index", "must lie above release"),
    ("block = 8", "groups = { us-index = 2 }\nrelease = 2.5", "6: portfolio.groups.us-index", "raise it or"),
    ("block = 8", "block = 101", "6: portfolio.block", "at most 100, not 101"),
    ("quantity = 1", "quantity = 3", "20: sessions.es.sizing.quantity", "every entry would be denied"),
    ("quantity = 1", "quantity = 1.5", "20: sessions.es.sizing.quantity", "no multiple of the size_step of ESZ6 (1)"),
    ("quantity = 1", "risk_percent = 8", "20: sessions.es.sizing.risk_percent", "every entry would be denied"),
    ("{ quantity = 1 }", "{ quantity = 1, risk_percent = 1 }", "20: sessions.es.sizing", "one of the two"),
    ("{ quantity = 1 }", "{}", "20: sessions.es.sizing", "one of the two"),
    ("{ quantity = 1 }", '{ risk_percent = 1 }\nprotection = "none"', "20: sessions.es.sizing.risk_percent", "a stop"),
    ("point_value = 50", "stale_after = 60", "13: instruments.ESZ6.stale_after", "stale (60 s) before it is silent"),
    ("point_value = 50", "stale_after = 0.0001", "13: instruments.ESZ6.stale_after", "whole milliseconds"),
    # words that are not there
    ('"Mine"', '"Mine"\nshutdown = "flaten"', "3: desk.shutdown", "did you mean flatten?"),
    ('"Mine"', '"Mine"\non_hangup = "stay"', "3: desk.on_hangup", 'until a console can attach to a running desk'),
    ('"Mine"', '"Mine"\nalerts = "sms"', "3: desk.alerts", "is not a setting"),
    ('"Mine"', '"Mine"\nfeed = "replay"', "3: desk.feed", 'needs replay = "FILE"'),
    ('"Mine"', '"Mine"\nreplay = "x.csv"', "3: desk.replay", 'needs feed = "replay"'),
    ('"Mine"', '"Mine"\nexchange = "tcp:x:1"', "3: desk.exchange", 'must be a socket such as "unix:'),
    ('"Mine"', '"Mine"\nfeed = "replay"\nreplay = "x.csv"\nexchange = "x"', "5: desk.exchange", "its own exchange"),
    ('"Mine"', '"Mine"\ndb = "postgresql://me:hush@host"', "3: desk.db", "must be written postgresql://USER@HOST/"),
    ('"Mine"', '"Mine"\ndb = "postgresql://me@h/d?sslmode=no"', "3: desk.db", "sslmode that is not known"),
    ("equity = 100_000", 'broker = "tradovate"', "9: accounts.paper.broker", "the only broker of this release"),
    ("equity = 100_000", "slippage_ticks = 2\n[accounts.two]", "10: accounts.two.slippage_ticks", "one exchange"),
    ("equity = 100_000", "margin_per_unit = { ESZ7 = 1 }", "9: accounts.paper.margin_per_unit.ESZ7", "mean ESZ6?"),
    ("equity = 100_000", "live = true", "9: accounts.paper.live", "paper accounts only"),
    ("equity = 100_000", 'currency = "EUR"', "9: accounts.paper.currency", "is EUR but the portfolio counts in USD"),
    ("point_value = 50", 'currency = "EUR"', "18: sessions.es.symbol", "is priced in EUR but account paper holds USD"),
    ('account = "paper"', 'account = "papier"', "17: sessions.es.account", "did you mean paper?"),
    ('symbol = "ESZ6"', 'symbol = "ESZ7"', "18: sessions.es.symbol", 'not there, "ESZ7"; did you mean ESZ6?'),
    ("[instruments.ESZ6]", '[instruments."E SZ6"]', '11: instruments."E SZ6"', "cannot be a name"),
    ("[accounts.paper]", "[accounts]", "9: accounts.equity", "must be a table"),
    ("sizing =", 'timeframe = "7m"\nsizing =', "20: sessions.es.timeframe", "divides a day"),
    ("block = 8", "groups = { us-indx = 5 }", "6: portfolio.groups.us-indx", "did you mean us-index?"),
    ("point_value = 50", 'calendar = "NYSE"', "13: instruments.ESZ6.calendar", 'must be "24/7" or a table'),
    ("point_value = 50", "calendar = {}", "13: instruments.ESZ6.calendar.zone", "is missing"),
    ("point_value = 50", 'calendar = { zone = "Chicago" }', "13: instruments.ESZ6.calendar.zone", "a time zone"),
    ("point_value = 50", 'calendar = { zone = "../x" }', "13: instruments.ESZ6.calendar.zone", "a time zone"),
    ("point_value = 50", 'calendar = { zone = "UTC", hours = ["Mon 9-16"] }',
     "13: instruments.ESZ6.calendar.hours", "must hold spans such as"),
    ("point_value = 50", 'calendar = { zone = "UTC", hours = ["Mon 09:00-16:00", "Mon 15:00-17:00"] }',
     "13: instruments.ESZ6.calendar.hours", "must not overlap"),
    ("point_value = 50", 'calendar = { zone = "UTC", holidays = ["2026-02-30"] }',
     "13: instruments.ESZ6.calendar.holidays", "must hold days such as"),
    ("max_order_size = 2", 'max_order_size = 2\nentry_window = "09:30"',
     "24: sessions.es.limits.entry_window", "two times"),
    ("max_order_size = 2", 'max_order_size = 2\nflat_by = "25:00"', "24: sessions.es.limits.flat_by", "a time of day"),
    ("sizing =", "arguments = { fast = nan }\nsizing =", "20: sessions.es.arguments", "finite"),
    ("sizing =", "arguments = 3\nsizing =", "20: sessions.es.arguments", "must be a table such as"),
    # missing
    ('strategy = "ema_cross"\n', "", "16: sessions.es.strategy", "is missing; write a strategy's name"),
    ("tick_size = 0.25\n", "", "11: instruments.ESZ6.tick_size", "is missing; write the smallest step"),
    ("sizing = { quantity = 1 }\n", "", "16: sessions.es.sizing", "one of the two"),
    *(
        (line + "\n", "", f"22: sessions.es.limits.{line.split()[0]}", "every session must set this limit")
        for line in DESK.splitlines()[22:]
    ),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "place", "words"), BAD, ids=[f"{place} {words}" for _, _, place, words in BAD])
def test_bad_input_is_one_sentence_with_file_line_and_key(old: str, new: str, place: str, words: str) -> None:
    assert DESK.count(old) >= 1, "the case does not fit the text"
    said = refusal(DESK.replace(old, new, 1))
    assert said.startswith(f"sextant.toml:{place} "), said
    assert words in said
    assert "\n" not in said
    assert "hush" not in said, "a password in a URL was repeated"


def test_r11_a_second_session_on_a_contract_is_refused_at_its_own_line() -> None:
    start = DESK.index("[sessions.es]")
    said = refusal(DESK + DESK[start:].replace("sessions.es", "sessions.two"))
    assert said.startswith("sextant.toml:32: sessions.two.symbol is already traded on account paper by session es")


def test_a_desk_without_sessions_or_accounts_says_what_to_add() -> None:
    assert "sextant.toml:1: sessions has no session; add a table" in refusal('[desk]\ntitle = "x"\n')
    assert refusal(DESK.replace("[accounts.paper]\nequity = 100_000", "")).startswith(
        "sextant.toml:16: sessions.es.account names an account, but there is no [accounts.NAME] table"
    )


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("[desk]\ntitle = \n", "sextant.toml:2: this is not TOML"),
        ("[desk]\ntitle = 'x'\ntitle = 'y'\n", "sextant.toml:3: this is not TOML"),
        ("[desk]\n[portfolio]\n[desk]\n", "sextant.toml:3: this is not TOML"),
        ('[desk]\ntitle = "open\n', "sextant.toml:2: this is not TOML"),
        ("[desk]\nx = [1,\n", "sextant.toml:3: this is not TOML"),
        ("x = " + "[" * 5000, "sextant.toml:1: this cannot be read as TOML (RecursionError)"),
        ("x = " + "9" * 5000, "sextant.toml:1: this cannot be read as TOML (ValueError)"),
        ("x = 1e99999999999999999999\n", "sextant.toml:1: "),
    ],
)
def test_broken_toml_is_one_sentence_with_its_line(text: str, place: str) -> None:
    assert refusal(text).startswith(place)


def test_files_that_cannot_be_read_are_one_sentence(tmp_path: Path) -> None:
    def said(path: Path) -> str:
        with pytest.raises(ConfigurationError) as caught:
            load(path, ENVIRON)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    binary, huge, marked = tmp_path / "binary.toml", tmp_path / "huge.toml", tmp_path / "marked.toml"
    binary.write_bytes(b"[desk]\ntitle = '\xff\xfe'\n")
    huge.write_bytes(b"# " + b"x" * 1_000_001)
    marked.write_bytes(b"\xef\xbb\xbf" + DESK.replace("\n", "\r\n").encode())
    assert "does not exist; correct --config" in said(tmp_path / "none.toml")
    assert "is a directory; give --config the sextant.toml inside it" in said(tmp_path)
    assert said(binary).startswith(f"{binary}:2: this is not UTF-8 text")
    assert "is no configuration" in said(huge)
    assert "cannot be read" in said(Path("/dev/null/x"))
    assert load(marked, ENVIRON).title == "Mine", "a byte-order mark and CRLF are accepted"


def test_the_example_is_the_embedded_desk() -> None:
    example = load(ROOT / "sextant.example.toml", ENVIRON)
    embedded = default_desk(Path("/home/me/.local/state/sextant"), "me")
    assert replace(example, origin=embedded.origin) == embedded


def test_x8_every_key_is_documented_and_every_documented_key_exists() -> None:
    text = (ROOT / "docs" / "configuration.md").read_text("utf-8")
    parts = re.split(r"^#+ `\[?([\w.]+)\]?`$", text, flags=re.MULTILINE)
    documented = {
        name: set(re.findall(r"^\| `(\w+)` \|", body, re.MULTILINE))
        for name, body in zip(parts[1::2], parts[2::2], strict=True)
    }
    known = {name.replace("sessions.NAME.sizing", "sizing"): set(keys) for name, keys in KEYS.items() if name}
    assert documented == known


def test_every_default_in_the_guide_is_the_real_one() -> None:
    text = (ROOT / "docs" / "configuration.md").read_text("utf-8")
    effective = dict(
        line.split(" = ", 1) for line in describe(read(DESK.replace('title = "Mine"\n', ""))) if " = " in line
    )
    stated = dict(re.findall(r"^\| `(\w+)` \| `([^`]+)` \|", text, re.MULTILINE))
    skipped = {
        "equity",
        "point_value",
        "warn",
        "block",
        "day_rolls_at",
        "form",
        "from",
    }  # set by the text, or not shown by it
    for key, default in stated.items():
        if key not in skipped:
            shown = effective[key]
            same = shown == default or Decimal(shown) == Decimal(default)
            assert same, f"{key}: the guide says {default}, the desk has {shown}"
