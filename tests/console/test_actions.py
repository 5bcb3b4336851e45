"""The table of actions, without Textual."""

import re

import msgspec
import pytest

from console import actions
from console.actions import ACTIONS, BY_NAME, Ask, SendNow, bindings, footer_keys
from console.replica import Focus, Replica
from engine.commands import AskNow, Flatten, Origin, ReconcileNow, ReleaseKill, RetryJobs
from engine.domain.ids import CommandId, SessionId
from tests.console.factory import NOW, busy_desk

SCREENS = ("desk", "market", "orders", "reconciliation", "heat", "journal")
ORIGIN = Origin(id=CommandId("c1"), operator="operator", place="desk", at=NOW)


@pytest.fixture
def desk() -> Replica:
    replica = Replica()
    replica.fold(busy_desk(), (), 0.0)
    return replica


@pytest.mark.parametrize("screen", SCREENS)
def test_no_key_means_two_things_on_one_screen(screen: str) -> None:
    keys = [key for keys, _, _ in (*bindings(None), *bindings(screen)) for key in keys.split(",")]
    assert len(keys) == len(set(keys))


def test_terminal_and_tmux_keys_stay_free() -> None:
    keys = {key for action in ACTIONS for key in action.key.split(",")}
    assert not keys & {"ctrl+s", "ctrl+q", "ctrl+z", "ctrl+b"}


def test_every_action_explains_itself() -> None:
    assert len(BY_NAME) == len(ACTIONS)
    for action in ACTIONS:
        assert re.fullmatch(r"[A-Z].+\.", action.help, re.DOTALL), action.name
        assert action.title


def test_nothing_that_changes_the_desk_happens_without_a_dialog_but_what_harms_nothing(desk: Replica) -> None:
    harmless = {"acknowledge_alert", "ask_now", "reconcile_now", "retry_jobs"}
    focus = Focus(
        screen="orders", session=SessionId("btc-breakout"), order=desk.open_orders[0],
        disagreement=desk.disagreements[0], foreign=desk.foreign[0],
    )  # fmt: skip
    for action in ACTIONS:
        if action.available(desk, focus) and isinstance(action.step(desk, focus), SendNow):
            assert action.name in harmless


def test_flatten_takes_a_typed_yes_and_nothing_else(desk: Replica) -> None:
    step = BY_NAME["flatten"].step(desk, Focus(screen="desk", session=SessionId("eurusd-ema")))
    assert isinstance(step, Ask)
    assert step.dialog.missing({"yes": "f"}) is not None
    assert step.dialog.missing({"yes": ""}) is not None
    assert step.dialog.missing({"yes": "y"}) is None
    assert step.dialog.make(ORIGIN, {"yes": "y"}) == Flatten(origin=ORIGIN, session=SessionId("eurusd-ema"))


def test_foreign_orders_are_cancelled_only_when_chosen(desk: Replica) -> None:
    step = BY_NAME["flatten"].step(desk, Focus(screen="desk", session=SessionId("btc-breakout")))
    assert isinstance(step, Ask)
    left = step.dialog.make(ORIGIN, {"yes": "y", "foreign": "leave"})
    taken = step.dialog.make(ORIGIN, {"yes": "y", "foreign": "cancel"})
    assert isinstance(left, Flatten)
    assert isinstance(taken, Flatten)
    assert (left.foreign, taken.foreign) == ((), ("F-77",))


def test_release_needs_the_word_and_a_reason(desk: Replica) -> None:
    desk.fold(msgspec.structs.replace(busy_desk(), killed=True), (), 1.0)
    action = BY_NAME["release_kill"]
    assert action.available(desk, Focus(screen="desk"))
    step = action.step(desk, Focus(screen="desk"))
    assert isinstance(step, Ask)
    assert step.dialog.missing({"word": "release", "reason": "calm again"}) is not None
    assert step.dialog.missing({"word": "RELEASE", "reason": " "}) is not None
    command = step.dialog.make(ORIGIN, {"word": "RELEASE", "reason": "calm again"})
    assert command == ReleaseKill(origin=ORIGIN, word="RELEASE", reason="calm again")


def test_asking_now_needs_an_order_in_doubt(desk: Replica) -> None:
    action = BY_NAME["ask_now"]
    doubtful, sure = desk.open_orders[0], desk.open_orders[-1]
    assert not action.available(desk, Focus(screen="orders", order=sure))
    step = action.step(desk, Focus(screen="orders", order=doubtful))
    assert isinstance(step, SendNow)
    assert step.make(ORIGIN) == AskNow(origin=ORIGIN, order=doubtful.client_id)


def test_reconcile_now_asks_every_account(desk: Replica) -> None:
    step = BY_NAME["reconcile_now"].step(desk, Focus(screen="desk"))
    assert isinstance(step, SendNow)
    assert step.make(ORIGIN) == ReconcileNow(origin=ORIGIN, account=None)


def test_dead_jobs_can_be_retried_while_there_are_some(desk: Replica) -> None:
    action = BY_NAME["retry_jobs"]
    assert not action.available(desk, Focus(screen="desk"))
    desk.fold(msgspec.structs.replace(busy_desk(), dead_jobs=2), (), 1.0)
    assert action.available(desk, Focus(screen="desk"))
    step = action.step(desk, Focus(screen="desk"))
    assert isinstance(step, SendNow)
    assert step.make(ORIGIN) == RetryJobs(origin=ORIGIN)


def test_the_footer_leads_with_what_matters_here(desk: Replica) -> None:
    keys = footer_keys(desk, Focus(screen="orders", session=SessionId("btc-breakout"), order=desk.open_orders[0]))
    assert [name for _, _, name in keys[:4]] == ["quit", "help", "order_life", "cancel_order"]


def test_faults_are_for_paper_only(desk: Replica) -> None:
    offered = actions.faults(desk, Focus(screen="desk", session=SessionId("es-range")))
    assert [fault.fault[0] for fault in offered] == ["margin_desk", "lose_answer", "foreign_order", "disconnect_feed"]
    assert offered[0].symbol == "ESH0"
    desk.fold(msgspec.structs.replace(busy_desk(), live=True), (), 1.0)
    assert actions.faults(desk, Focus(screen="desk")) == []
