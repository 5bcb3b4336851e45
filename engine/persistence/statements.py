"""Each record as the statements that keep it; written twice, it changes nothing the second time.

Rows with a revision are guarded by it. Rows whose newest state wins (latches, limits, disagreements, sessions,
balances) are guarded by the log: the record's digest is its version there, and a version that is logged is done.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import assert_never

import msgspec

from engine.domain.ids import ClientOrderId, DecisionKey, Millis
from engine.domain.intents import CancelIntent, IntentRecord, ReplaceIntent, SubmitIntent
from engine.domain.orders import Terms
from engine.domain.records import (
    BalanceChanged,
    CandleEvaluated,
    DecisionMade,
    DisagreementRecorded,
    FillBooked,
    LatchSet,
    LimitsChanged,
    OrderChanged,
    OverrideRecorded,
    PositionRecorded,
    Record,
    ReplacedAfterDecision,
    SessionRegistered,
)
from engine.persistence.connection import Statement
from engine.persistence.order_rows import (
    PUT_FILL,
    PUT_LOG,
    disagreement_row,
    fill_row,
    json_of,
    put_order,
    text_of,
    text_or_none,
)

# An epoch that was taken over is stored as NULL, which the column refuses: the whole intent is then rolled back.
CLAIM_KEY = """
INSERT INTO intents (key, kind, origin, account, session, client_id, role, terms, reason, at, epoch)
VALUES (?, ?, 'desk', ?, ?, ?, ?, ?, ?, ?, (
    SELECT CASE WHEN EXISTS (SELECT 1 FROM leases WHERE account = ? AND epoch > ?)
        THEN NULL ELSE CAST(? AS BIGINT) END
))
"""
# What was journalled was sent: it takes its key back from a tombstone, which only said "not durable here".
IMPORT_KEY = """
INSERT INTO intents (key, kind, origin, account, session, client_id, role, terms, reason, at, epoch)
VALUES (?, ?, 'journal', ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (key) DO UPDATE SET
    kind = excluded.kind, origin = excluded.origin, account = excluded.account, session = excluded.session,
    client_id = excluded.client_id, role = excluded.role, terms = excluded.terms, reason = excluded.reason,
    at = excluded.at, epoch = excluded.epoch
WHERE intents.kind = 'tombstone'
"""
BURY = """
INSERT INTO intents (key, kind, origin, epoch, at) VALUES (?, 'tombstone', 'tombstone', 0, ?)
ON CONFLICT (key) DO NOTHING
"""
NOT_LOGGED = "NOT EXISTS (SELECT 1 FROM log WHERE subject = ? AND kind = ? AND version = ?)"
PUT_POSITION = """
INSERT INTO positions (account, symbol, version, session, quantity, average_price, cause, at)
VALUES (?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (account, symbol, version) DO NOTHING
"""
QUEUE_TRADES = """
INSERT INTO jobs (kind, subject, state, attempts, due, queued, error)
SELECT 'trades', CAST(? AS TEXT), 'pending', 0, 0, CAST(? AS BIGINT), ''
WHERE (SELECT coalesce(max(number), 0) FROM fills WHERE account = ? AND symbol = ?)
    > (SELECT coalesce(max(version), 0) FROM trade_versions WHERE account = ? AND symbol = ?)
ON CONFLICT (kind, subject) WHERE state = 'pending' DO NOTHING
"""
PUT_DECISION = """
INSERT INTO decisions (session, candle, key, kind, client_id, reason, at) VALUES (?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (session, candle) DO NOTHING
"""
PUT_EVALUATED = """
INSERT INTO evaluated_candles (session, candle, at) VALUES (?, ?, ?)
ON CONFLICT (session) DO UPDATE SET candle = excluded.candle, at = excluded.at
WHERE excluded.candle > evaluated_candles.candle
"""
PUT_REPLACED = """
INSERT INTO replaced_candles (session, candle, revision, was, is_now, at) VALUES (?, ?, ?, ?, ?, ?)
ON CONFLICT (session, candle, revision) DO NOTHING
"""
PUT_BALANCE = f"""
INSERT INTO balances (account, at, equity, cash, margin_used, currency)
SELECT CAST(? AS TEXT), CAST(? AS BIGINT), CAST(? AS TEXT), CAST(? AS TEXT), CAST(? AS TEXT), CAST(? AS TEXT)
WHERE {NOT_LOGGED} AND NOT EXISTS (
    SELECT 1 FROM balances
    WHERE number = (SELECT max(number) FROM balances WHERE account = ?)
        AND equity = ? AND cash = ? AND margin_used = ? AND currency = ?
)
ON CONFLICT (account, at) DO UPDATE SET
    equity = excluded.equity, cash = excluded.cash, margin_used = excluded.margin_used,
    currency = excluded.currency
"""  # noqa: S608 (a constant of this file)
LOG_BALANCE = """
INSERT INTO log (at, kind, subject, version, text)
SELECT at, 'balance', account, CAST(? AS TEXT), CAST(? AS TEXT) FROM balances
WHERE account = ? AND at = ? AND equity = ? AND cash = ? AND margin_used = ? AND currency = ?
ON CONFLICT (subject, kind, version) DO NOTHING
"""
PUT_DISAGREEMENT = f"""
INSERT INTO disagreements (
    id, account, session, symbol, kind, state, memory, in_database, broker, memory_read, database_read,
    broker_read, first_seen, updated, query, done, position_effect, pnl_effect, heat_effect, broker_id,
    blocks_entries, acknowledged_by, acknowledged_at, note, is_open
) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (id) DO UPDATE SET
    account = excluded.account, session = excluded.session, symbol = excluded.symbol, kind = excluded.kind,
    state = excluded.state, memory = excluded.memory, in_database = excluded.in_database,
    broker = excluded.broker, memory_read = excluded.memory_read, database_read = excluded.database_read,
    broker_read = excluded.broker_read, updated = excluded.updated, query = excluded.query,
    done = excluded.done, position_effect = excluded.position_effect, pnl_effect = excluded.pnl_effect,
    heat_effect = excluded.heat_effect, broker_id = excluded.broker_id,
    blocks_entries = excluded.blocks_entries, acknowledged_by = excluded.acknowledged_by,
    acknowledged_at = excluded.acknowledged_at, note = excluded.note, is_open = excluded.is_open
WHERE excluded.updated >= disagreements.updated AND {NOT_LOGGED}
"""  # noqa: S608 (a constant of this file)
PUT_OVERRIDE = """
INSERT INTO overrides (id, step, what, operator, origin, at, session, reason, detail, outcome)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (id, step) DO NOTHING
"""
PUT_LATCH = f"""
INSERT INTO latches (scope, kind, held, reason, at, set_by, until) VALUES (?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (scope, kind) DO UPDATE SET
    held = excluded.held, reason = excluded.reason, at = excluded.at, set_by = excluded.set_by,
    until = excluded.until
WHERE excluded.at >= latches.at AND {NOT_LOGGED}
"""  # noqa: S608 (a constant of this file)
PUT_LIMIT = f"""
INSERT INTO limits (name, percent, at, set_by, reason) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (name) DO UPDATE SET
    percent = excluded.percent, at = excluded.at, set_by = excluded.set_by, reason = excluded.reason
WHERE excluded.at >= limits.at AND {NOT_LOGGED}
"""  # noqa: S608 (a constant of this file)
PUT_SESSION = f"""
INSERT INTO sessions (session, account, symbol, strategy, timeframe, settings, started)
VALUES (?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (session) DO UPDATE SET
    account = excluded.account, symbol = excluded.symbol, strategy = excluded.strategy,
    timeframe = excluded.timeframe, settings = excluded.settings, started = excluded.started
WHERE excluded.started >= sessions.started AND {NOT_LOGGED}
"""  # noqa: S608 (a constant of this file)


def digest(record: Record) -> str:
    """The version of a record that has no revision of its own."""
    return hashlib.blake2b(msgspec.json.encode(record), digest_size=9).hexdigest()


def trades_subject(account: str, symbol: str) -> str:
    """The subject of the job that recomputes a contract's trades."""
    return json_of([account, symbol])


def bury(key: DecisionKey, at: Millis) -> list[Statement]:
    """A tombstone under the key, if nobody holds it."""
    return [(BURY, (key, at))]


def claim(intent: IntentRecord) -> list[Statement]:
    """The key and rows of an intent about to be sent; fails as a whole when key or epoch is not ours to use."""
    values = _intent_values(intent)
    guarded = (CLAIM_KEY, (*values, intent.account, intent.epoch, intent.epoch))
    return [guarded, *_intent_rows(intent, "submitting")]


def import_key(intent: IntentRecord) -> list[Statement]:
    """The key and rows of an intent that the journal proves was about to be sent."""
    return [(IMPORT_KEY, (*_intent_values(intent), intent.epoch)), *_intent_rows(intent, "journalled")]


def _intent_values(intent: IntentRecord) -> tuple[object, ...]:
    session, client, account, at = intent_subject(intent)
    kind, role, terms, reason = _intent_wish(intent)
    wanted = None if terms is None else json_of(terms)
    return (intent.key, kind, account, session, client, role, wanted, reason, at)


def intent_subject(intent: IntentRecord) -> tuple[str, ClientOrderId, str, Millis]:
    """Session, client order id, account and moment of an intent."""
    if isinstance(intent, SubmitIntent):
        return intent.order.session, intent.order.client_id, intent.account, intent.at
    return intent.session, intent.client_id, intent.account, intent.at


def _intent_wish(intent: IntentRecord) -> tuple[str, str | None, Terms | None, str]:
    match intent:
        case SubmitIntent(order=order):
            return "submit", order.role.value, order.terms, order.reason
        case CancelIntent():
            return "cancel", None, None, intent.reason
        case ReplaceIntent():
            return "replace", None, intent.terms, intent.reason
        case _:
            assert_never(intent)


def _intent_rows(intent: IntentRecord, event: str) -> Iterator[Statement]:
    match intent:
        case SubmitIntent():
            for order in (intent.order, *intent.legs):
                yield from put_order(order, event, intent.at)
        case CancelIntent():
            yield _log(intent.at, "intent", intent.session, intent.client_id, intent.key, f"cancel {intent.reason}")
        case ReplaceIntent(terms=terms):
            prices = " ".join(text_of(price) for price in (terms.limit, terms.stop) if price is not None)
            text = f"replace with {text_of(terms.quantity)} {terms.type.value} {prices} {intent.reason}"
            yield _log(intent.at, "intent", intent.session, intent.client_id, intent.key, text)
        case _:
            assert_never(intent)


def _log(at: Millis, kind: str, session: str | None, subject: str, version: str, text: str) -> Statement:
    return PUT_LOG, (at, kind, session, subject, version, " ".join(text.split()))


def statements_of(record: Record) -> list[Statement]:
    """Everything that one record changes, in order."""
    return list(_statements(record))


def _statements(record: Record) -> Iterator[Statement]:
    match record:
        case OrderChanged():
            yield from put_order(record.order, record.event, record.at, record.detail)
        case FillBooked():
            yield from _fill(record)
        case DecisionMade():
            key, order, at = record.key, record.order, record.at
            yield PUT_DECISION, (record.session, record.candle, key, record.kind, order, record.reason, at)
            text = f"{record.kind}: {record.reason}"
            yield _log(record.at, "decision", record.session, record.order or record.key, str(record.candle), text)
        case CandleEvaluated():
            yield PUT_EVALUATED, (record.session, record.candle, record.at)
        case ReplacedAfterDecision():
            of_candle = (record.session, record.candle, record.revision)
            yield PUT_REPLACED, (*of_candle, record.was, record.now, record.at)
            text = f"candle {record.candle} replaced after a decision: was {record.was}, now {record.now}"
            version = f"{record.candle}/{record.revision}"
            yield _log(record.at, "candle", record.session, record.session, version, text)
        case PositionRecorded():
            yield from _position(record, digest(record))
        case BalanceChanged():
            yield from _balance(record)
        case OverrideRecorded():
            who = (record.id, record.step, record.what, record.operator, record.origin)
            words = (record.reason, record.detail, record.outcome)
            yield PUT_OVERRIDE, (*who, record.at, record.session, *words)
            text = f"{record.what} by {record.operator} ({record.origin}): {record.outcome} {record.reason} "
            yield _log(record.at, "override", record.session, record.id, str(record.step), text + record.detail)
        case DisagreementRecorded() | LatchSet() | LimitsChanged() | SessionRegistered():
            yield from _newest_wins(record)
        case _:
            assert_never(record)


def _fill(record: FillBooked) -> Iterator[Statement]:
    fill, position = record.fill, record.position
    yield PUT_FILL, fill_row(fill, record.at)
    if record.order is not None:
        yield from put_order(record.order, "fill", record.at)
    version = f"fill {fill.key} {fill.revision}"
    average = text_or_none(position.average_price)
    row = (fill.account, fill.symbol, version, fill.session, text_of(position.quantity), average, "fill", record.at)
    yield PUT_POSITION, row
    where = (fill.account, fill.symbol)
    yield QUEUE_TRADES, (trades_subject(*where), record.at, *where, *where)
    text = f"{fill.side.value} {text_of(fill.quantity)} {fill.symbol} at {text_of(fill.price)}, fee "
    text += f"{text_of(fill.fee)}; position {text_of(position.quantity)}"
    if fill.revision:
        text = f"{'busted' if not fill.quantity else 'corrected'}: {text}"
    subject = fill.client_id or fill.broker_id
    yield _log(record.at, "fill", fill.session, subject, f"{fill.account}/{fill.key}/{fill.revision}", text)


def _position(record: PositionRecorded, version: str) -> Iterator[Statement]:
    quantity, average = text_of(record.position.quantity), text_or_none(record.position.average_price)
    row = (record.account, record.symbol, version, record.session, quantity, average, record.cause, record.at)
    yield PUT_POSITION, row
    text = f"{record.symbol} {quantity} at {average}" if average else f"{record.symbol} {quantity}"
    subject = f"{record.account}/{record.symbol}"
    yield _log(record.at, "position", record.session, subject, version, f"{text}: {record.cause}")


def _balance(record: BalanceChanged) -> Iterator[Statement]:
    money, version = record.balance, digest(record)
    equity, cash, margin = text_of(money.equity), text_of(money.cash), text_of(money.margin_used)
    values = (equity, cash, margin, money.currency)
    guard = (record.account, "balance", version)
    yield PUT_BALANCE, (record.account, record.at, *values, *guard, record.account, *values)
    text = f"equity {equity} {money.currency}, cash {cash}, margin {margin}"
    yield LOG_BALANCE, (version, text, record.account, record.at, *values)


def _newest_wins(
    record: DisagreementRecorded | LatchSet | LimitsChanged | SessionRegistered,
) -> Iterator[Statement]:
    version = digest(record)
    match record:
        case DisagreementRecorded(disagreement=item):
            kind, subject, session, at = "disagreement", item.id, item.session, item.updated
            sql, row = PUT_DISAGREEMENT, disagreement_row(item)
            text = f"{item.kind.value} {item.symbol}: {item.state.value}; memory {item.memory}, "
            text += f"database {item.database}, broker {item.broker}; {item.done} {item.note}"
        case LatchSet():
            kind, session, at = "latch", record.session, record.at
            scope, until = record.session or "", record.until.isoformat() if record.until else None
            subject = f"{scope or 'desk'}/{record.kind.value}"
            sql = PUT_LATCH
            row = (scope, record.kind.value, int(record.held), record.reason, record.at, record.by, until)
            text = f"{record.kind.value} {'set' if record.held else 'released'} by {record.by or 'the desk'}: "
            text += record.reason
        case LimitsChanged():
            kind, subject, session, at = "limit", record.name, None, record.at
            sql, row = PUT_LIMIT, (record.name, text_of(record.percent), record.at, record.by, record.reason)
            text = f"{record.name} {text_of(record.percent)} % by {record.by}: {record.reason}"
        case SessionRegistered():
            kind, subject, session, at = "session", record.session, record.session, record.at
            sql = PUT_SESSION
            who = (record.session, record.account, record.symbol)
            row = (*who, record.strategy, record.timeframe, record.settings, record.at)
            text = f"{record.strategy} on {record.symbol} {record.timeframe}, account {record.account}"
        case _:
            assert_never(record)
    yield sql, (*row, subject, kind, version)
    yield _log(at, kind, session, subject, version, text)
