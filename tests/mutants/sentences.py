"""Each sentence of the two pages that says never, only, before, at most or once, and what shows that it holds.

A deliberate mistake where a simulated run can notice one; else the tests that would fail. A few speak of what is not
built. "At once", "once" for "as soon as" and headings are no such sentences.
"""

from __future__ import annotations

from msgspec import Struct


class Sentence(Struct, frozen=True, kw_only=True):
    """`words` stand on the page `page`; `mistakes` break them, `tests` (names of functions) hold them up."""

    page: str
    words: str
    mistakes: tuple[str, ...] = ()
    tests: tuple[str, ...] = ()
    absent: str = ""


B, P = "behaviour.md", "order-protocol.md"


def _broken(page: str, words: str, *mistakes: str) -> Sentence:
    return Sentence(page=page, words=words, mistakes=mistakes)


def _tested(page: str, words: str, *tests: str) -> Sentence:
    return Sentence(page=page, words=words, tests=tests)


def _absent(page: str, words: str, why: str) -> Sentence:
    return Sentence(page=page, words=words, absent=why)


SENTENCES = (
    _absent(B, "a continuous symbol serves data only", "symbols are dated contracts of the settings"),
    _broken(
        B, "Exits always go to the position's own contract, never to a re-resolved symbol", "exit-on-another-contract"
    ),
    _absent(B, "From five days before first notice or last trade", "no broker tells expiries yet"),
    _absent(B, "the session is re-pinned only when the broker confirms it flat", "no broker tells expiries yet"),
    _broken(
        B, "An exit is capped at what can be closed and never opens", "exit-of-twice-the-size", "exit-ignores-the-stop"
    ),
    _broken(B, "may tighten an intent, never widen it", "opposite-entry-stays-an-entry"),
    _broken(B, "a reverse is an exit followed, once that is confirmed, by an entry", "reverse-enters-at-once"),
    _broken(B, "State is rebuilt by warm-up, never stored", "warmed-by-one-candle"),
    _tested(
        B,
        "size and loss pause the session, counts close its entries until their period ends, collar and entry window "
        "only deny",
        "test_each_limit_denies_with_its_number_and_its_consequence",
    ),
    _tested(
        B,
        "Strategy files load only from a directory owned by the user and not writable by others",
        "test_a_file_in_a_directory_that_others_may_write_is_not_run",
        "test_a_file_of_somebody_else_is_not_run",
    ),
    _broken(B, "Trading is off until then", "trades-before-the-account-half"),
    _broken(
        B,
        "The strategy runs at most once per (session, candle time) per life, and a decision is used at most once ever",
        "runs-on-a-replacement",
        "decides-twice-after-a-restart",
        "decision-key-of-the-moment",
        "used-name-used-again",
    ),
    _broken(B, "Only closed candles reach it", "shown-before-its-close"),
    _tested(
        B,
        "open or close only if it is the earliest or latest",
        "test_a_late_tick_inside_the_window_amends_high_low_and_volume_but_not_open_or_close",
        "test_any_arrival_order_inside_the_window_gives_the_candles_of_a_group_by",
    ),
    _broken(B, "it is backfilled and marked before the next run", "gap-does-not-block"),
    _broken(B, "Warm-up and backfilled candles never produce entries", "enters-on-a-backfilled-candle"),
    _tested(
        B,
        "is sent once trading opens, marked missed",
        "test_a_missed_exit_is_sent_once_trading_opens_and_marked",
        "test_an_exit_missed_between_two_lives_is_sent_once_and_marked",
    ),
    _absent(B, "its weight never sits in the trading process", "calendars stand in the settings"),
    _broken(B, "otherwise only the stop rests at the broker and the target is ours", "unlinked-target-rests"),
    _broken(B, "Protective legs are GTC; DAY only with a flat-by before the close", "legs-for-the-day"),
    _broken(B, "letters and digits, at most 22 characters", "client-id-too-long"),
    _broken(
        B,
        "Before an order is sized the broker is asked for the position",
        "entry-without-a-fresh-position",
        "exit-sized-from-stale-memory",
    ),
    _broken(B, "Only a complete, successful answer counts", "failed-query-reads-as-flat"),
    _tested(
        B,
        "a limit exit is linked to the stop (one-cancels-other); never a second beside it, never a refusal",
        "test_exits_at_a_price_move_what_rests_to_the_tick_towards_the_market",
        "test_a_limit_exit_without_a_target_at_the_broker_is_watched_here",
    ),
    _broken(
        B,
        "Exits and cancels are never refused by heat, pause, kill, stale feed, warm-up, throttle, limits, a missing "
        "session, or a database outage",
        "exit-passes-the-gate",
        "exit-waits-for-the-database",
    ),
    _broken(B, 'Their only refusals are the broker\'s own and "nothing to close"', "exit-passes-the-gate"),
    _broken(
        B,
        "sizes the session's own protective orders to it, once per change, as exits",
        "stop-not-resized",
        "stop-keeps-its-own-rest",
    ),
    _broken(B, "Foreign orders are never touched", "foreign-order-is-cancelled"),
    _broken(
        B,
        "is re-armed once on evidence that none is live",
        "stop-not-rearmed",
        "rearmed-beside-an-unproven-stop",
        "armed-again-and-again",
        "refused-stop-armed-again",
    ),
    _tested(
        B,
        "a failed batch is retried item by item, so one bad row harms only itself",
        "test_a_poisoned_row_harms_only_itself",
    ),
    _broken(
        B,
        "An exit or cancel waits at most 250 ms for its commit, then its intent goes to the append-only intent journal",
        "exit-waits-for-the-database",
        "exit-not-journalled",
    ),
    _broken(B, "A first mismatch blocks that session's entries at once and is read again", "enters-on-a-mismatch"),
    _tested(
        B, "Settling lasts at most 10 s", "test_a_difference_is_adopted_after_ten_seconds_though_no_order_was_told"
    ),
    _broken(B, "Reconciliation corrects belief; it never places an order", "reconciliation-places-an-order"),
    _broken(B, "never below a gap floor", "no-gap-floor"),
    _tested(
        B,
        "A reservation yields only to a report that names its order",
        "test_a_reservation_yields_only_to_a_report_that_names_its_order",
    ),
    _broken(B, "never a total; entries blocked everywhere, exits free", "total-while-one-is-missing"),
    _tested(B, "only that session's entries stop", "test_a_doubt_stops_the_entries_of_its_own_session_only"),
    _tested(
        B,
        "A dead session may be stood down by override once its contract is confirmed flat without orders",
        "test_stand_down_takes_a_dead_flat_session_out_for_good",
    ),
    _tested(
        B,
        "it never reads heat",
        "test_the_portfolio_server_rebuilds_from_the_traders_not_the_database",
        "test_what_we_keep_lists_every_table_and_no_other",
    ),
    _broken(B, "What adds risk is committed before it takes effect and needs a reason", "risk-before-its-row"),
    _broken(B, "else close only what it does not hold", "exit-beside-an-exit-in-doubt", "what-leaves-is-closed-again"),
    _broken(B, "Foreign orders are listed, cancelled only if ticked", "foreign-order-is-cancelled"),
    _tested(
        B,
        "one failure never takes a sibling down",
        "test_x4_a_trader_that_raises_is_a_blocked_session_within_a_second_and_comes_back",
    ),
    _tested(
        B,
        "Fault commands and base-URL overrides exist only for paper credentials on loopback",
        "test_faults_exist_only_on_paper_and_alerts_are_acknowledged",
    ),
    _tested(P, "the engine reads capabilities, never names", "test_exits_are_never_blocked_and_never_add_up"),
    _broken(
        P,
        "committed and never sent is the normal case",
        "restart-believes-what-was-under-way",
        "pending-replace-forgotten",
    ),
    _broken(P, "Send once, deadline 5 s", "lost-answer-is-resent"),
    _broken(P, "Open-only lists prove nothing", "open-orders-alone-prove"),
    _broken(P, "Not found is only evidence", "lost-after-one-negative", "incomplete-answer-counts-as-absence"),
    _broken(P, "Never resend automatically in modes tag and none", "lost-answer-is-resent"),
    _broken(P, "At most one attempt per (session, candle, leg) that is not proven dead", "decision-key-of-the-moment"),
    _tested(
        P,
        "id not seen before the send, not claimed by another row",
        "test_another_order_of_ours_that_looks_like_it_is_not_taken",
        "test_an_order_of_before_the_send_may_be_ours_by_a_clock_that_was_ahead",
    ),
    _broken(P, "At most one order in doubt per (account, symbol, side)", "second-entry-beside-one-in-doubt"),
    _broken(P, "Entries not sent by their deadline are dropped, never queued for later", "entry-after-its-deadline"),
    _broken(P, "The deadline of an intent is one timeframe, at most 60 s", "deadline-of-an-hour"),
    _broken(P, "ABANDONED (row committed, proven never sent", "gate-not-read-at-send", "entry-without-commit"),
    _broken(P, "LOST (presumed never accepted)", "lost-after-one-negative", "lost-does-not-block"),
    _broken(P, "Broker facts are never refused; only our commands are", "late-fill-dropped"),
    _broken(P, "what contradicts the table is booked, flagged and alarmed, never dropped", "late-fill-dropped"),
    _broken(P, "and is sent once an id is known", "wanted-cancel-is-forgotten"),
    _broken(
        P,
        "WORKING -> terminal only after known fills equal the reported cumulative quantity",
        "terminal-with-fills-missing",
    ),
    _tested(
        P,
        "bounded attempts, never fatal",
        "test_a_refused_cancel_asks_for_the_orders_at_once",
        "test_s23_a_refused_cancel_asks_what_became_of_the_order",
    ),
    _broken(P, "Terminal states never reopen except by bust, correction or a new fill", "ended-order-reopens"),
    _broken(
        P,
        "Absence counts only from a complete, successful query, begun after our last action, and repeated",
        "incomplete-answer-counts-as-absence",
        "gone-at-first-absence",
        "judges-an-unsettled-contract",
    ),
)
