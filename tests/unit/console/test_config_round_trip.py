"""What `doctor` prints loads back to the same desk."""

from datetime import date, time
from decimal import Decimal
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from console.config import AccountSettings, DeskSettings, PostgresUrl, SqliteFile, default_desk, describe, parse
from engine.domain.broker import Capabilities, Enforcer, FillsKind, IdMode, ReplaceId, ReplaceQuantity
from engine.domain.calendar import ALWAYS_OPEN, Calendar
from engine.domain.ids import AccountId, SessionId, Symbol
from engine.domain.instruments import Instrument
from engine.domain.market import Timeframe
from engine.domain.risk import GroupLimits, HeatLimits, PortfolioSettings
from engine.domain.settings import (
    EntryWindow,
    FixedSize,
    Numbers,
    Protection,
    Remedy,
    RiskSize,
    SessionLimits,
    SessionSettings,
    ShutdownPolicy,
)

NAMES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,10}", fullmatch=True)
SYMBOLS = st.from_regex(r"[A-Za-z0-9@$][A-Za-z0-9._/@$-]{0,10}", fullmatch=True)
TITLES = st.text(st.characters(categories=["L", "N", "P", "S"]), min_size=1, max_size=20)
POSITIVE = st.decimals("0.000001", "1000000000", places=6)
CLOCKS = st.builds(time, st.integers(0, 23), st.integers(0, 59))
WINDOWS = st.tuples(CLOCKS, CLOCKS).filter(lambda pair: pair[0] != pair[1]).map(lambda pair: EntryWindow(*pair))
ARGUMENTS = st.dictionaries(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=6),
    st.one_of(
        st.integers(),
        st.decimals(allow_nan=False, allow_infinity=False, places=8),
        st.booleans(),
        st.text(st.characters(exclude_categories=["Cs"]), max_size=10),
        st.lists(st.integers(), max_size=3),
        st.dictionaries(st.text("ab é", max_size=3), st.integers(), max_size=2),
    ),
    max_size=4,
)


@st.composite
def calendars(draw: st.DrawFn) -> Calendar:
    if draw(st.booleans()):
        return ALWAYS_OPEN
    edges = sorted(draw(st.sets(st.integers(0, 7 * 1440 - 1), max_size=8)))
    spans: list[tuple[int, int]] = list(zip(edges[::2], edges[1::2], strict=False))
    over: bool = draw(st.booleans())
    if spans and over:  # the last one runs over the end of the week, up to where the first begins
        spans[-1] = (spans[-1][0], 7 * 1440 + draw(st.integers(0, spans[0][0])))
    return Calendar(
        name=draw(TITLES),
        zone=draw(st.sampled_from(["UTC", "America/Chicago", "Europe/Berlin"])),
        open_minutes=tuple(spans),
        day_rolls_at=draw(st.integers(0, 1439)),
        holidays=draw(st.frozensets(st.dates(date(2000, 1, 1), date(2050, 1, 1)), max_size=3)),
    )


@st.composite
def instruments(draw: st.DrawFn, symbol: str) -> Instrument:
    stale = draw(st.integers(1, 40_000_000))
    return Instrument(
        symbol=Symbol(symbol),
        tick_size=draw(POSITIVE),
        point_value=draw(POSITIVE),
        size_step=Decimal("0.000001"),
        calendar=draw(calendars()),
        group=draw(st.none() | st.just("a-group")),
        worst_case=draw(st.none() | POSITIVE),
        stale_after_ms=stale,
        silent_after_ms=stale + draw(st.integers(1, 40_000_000)),
    )


@st.composite
def sessions(draw: st.DrawFn, name: str, account: str, symbol: str) -> SessionSettings:
    size = draw(POSITIVE)
    protected = draw(st.booleans())
    percent = st.decimals("0.01", "0.99", places=2).map(RiskSize)
    fixed = st.just(FixedSize(size))
    a_minute = draw(st.integers(1, 1000))
    return SessionSettings(
        id=SessionId(name),
        account=AccountId(account),
        symbol=Symbol(symbol),
        strategy=draw(st.sampled_from(["ema_cross", "opening_range", "/srv/my desk/mine.py:Mine"])),
        timeframe=Timeframe.parse(draw(st.sampled_from(["1s", "5m", "4h", "1d"]))),
        limits=SessionLimits(
            max_order_size=size,
            max_position_size=size + draw(POSITIVE),
            entries_per_minute=a_minute,
            entries_per_day=a_minute + draw(st.integers(0, 1000)),
            price_collar=draw(st.decimals("0.0001", "1", places=4)),
            max_daily_loss=draw(POSITIVE),
            worst_case_per_contract=draw(POSITIVE),
            entry_window=draw(st.none() | WINDOWS),
            flat_by=draw(st.none() | CLOCKS),
        ),
        sizing=draw(fixed | percent) if protected else draw(fixed),
        protection=Protection.STOP if protected else Protection.NONE,
        arguments=draw(ARGUMENTS),
        warmup=draw(st.integers(0, 1000)),
        missed_exit=draw(st.sampled_from(Remedy)),
        naked=draw(st.sampled_from(Remedy)),
        force_exit_after_s=draw(st.none() | st.floats(0.01, 80_000)),
    )


DATABASES = st.builds(
    PostgresUrl,
    database=NAMES,
    host=st.sampled_from(["", "db.example", "::1", "/run/pg"]),
    port=st.none() | st.integers(1, 65535),
    user=st.sampled_from(["", "ann", "a b@c"]),
    tls=st.sampled_from([(), (("sslmode", "verify-full"), ("sslrootcert", "/etc/a b.pem"))]),
)


@st.composite
def desks(draw: st.DrawFn) -> DeskSettings:
    symbols = draw(st.lists(SYMBOLS, min_size=1, max_size=3, unique=True))
    account_names = draw(st.lists(NAMES, min_size=1, max_size=2, unique=True))
    session_names = draw(st.lists(NAMES, min_size=len(symbols), max_size=len(symbols), unique=True))
    traded = tuple(draw(instruments(symbol)) for symbol in symbols)
    groups = (GroupLimits(name="a-group", block=Decimal(5)),) if any(i.group for i in traded) else ()
    warn = draw(st.decimals("1", "50", places=2))
    max_fill = draw(st.none() | POSITIVE)
    return DeskSettings(
        title=draw(TITLES),
        exchange=draw(st.none() | st.just(Path("/run/user/1000/my exchange.sock"))),
        seed=draw(st.integers(0, 1_000_000)),
        state_dir=Path("/var/lib/my desk"),
        database=draw(st.just(SqliteFile(Path("/srv/audit.sqlite3"))) | DATABASES),
        shutdown=draw(st.sampled_from(ShutdownPolicy)),
        operator=draw(NAMES),
        numbers=Numbers(tries=draw(st.integers(1, 99)), exit_commit=draw(st.floats(0.01, 5))),
        portfolio=PortfolioSettings(
            limits=HeatLimits(warn=warn, block=warn + 1, release=draw(st.decimals("0", "1", places=2))),
            groups=groups,
        ),
        accounts=tuple(
            AccountSettings(
                id=AccountId(name),
                equity=draw(POSITIVE),
                margin_per_unit={Symbol(symbols[0]): draw(POSITIVE)} if draw(st.booleans()) else {},
                latency_ms=draw(st.integers(0, 60_000)),
                max_fill=max_fill,
                capabilities=Capabilities(
                    id_mode=draw(st.sampled_from(IdMode)),
                    find_by_client_id=draw(st.booleans()),
                    fills=draw(st.sampled_from(FillsKind)),
                    replace_id=draw(st.sampled_from(ReplaceId)),
                    replace_quantity=draw(st.sampled_from(ReplaceQuantity)),
                    replace_may_change_type=draw(st.booleans()),
                    one_cancels_other=draw(st.sampled_from(Enforcer)),
                    brackets=draw(st.booleans()),
                    settle_ms=draw(st.integers(0, 1000)),
                ),
            )
            for name in account_names
        ),
        instruments=traded,
        sessions=tuple(
            draw(sessions(name, draw(st.sampled_from(account_names)), symbol))
            for name, symbol in zip(session_names, symbols, strict=True)
        ),
    )


def again(desk: DeskSettings) -> DeskSettings:
    read = parse("\n".join(describe(desk)), "printed", Path("/elsewhere"), {"HOME": "/nobody"})
    return replace(read, origin=desk.origin)


@given(desks())
def test_the_printed_configuration_loads_back_to_the_same_desk(desk: DeskSettings) -> None:
    assert again(desk) == desk


def test_the_embedded_desk_too() -> None:
    desk = default_desk(Path("/var/lib/sextant"))
    assert again(desk) == desk


def test_what_is_printed_holds_no_control_characters() -> None:
    arguments: dict[str, Any] = {"a\x1b[2J": "b\x07\x9b"}
    desk = default_desk(Path("/x"))
    desk = replace(desk, origin="evil\x1b[2J", sessions=(replace(desk.sessions[0], arguments=arguments),))
    assert all(line.isprintable() for line in describe(desk))
    assert again(desk) == desk
