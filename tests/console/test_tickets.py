"""Stories of an order by hand: what the engine says while it is typed, and the one command that leaves, or none."""

from __future__ import annotations

from decimal import Decimal as D

import msgspec
import pytest
from textual import events

from console.client import EngineSilent
from console.screens.modals.spec import Field, FieldKind, number
from engine.commands import ModifyOrder, SubmitByHand
from engine.domain.ids import ClientOrderId, DecisionKey, SessionId
from engine.domain.orders import OrderState, OrderType, Side, Terms
from engine.domain.risk import IncompleteHeat
from engine.queries import CheckAnswer, ModifyCheck, Query, TicketCheck
from screenshots.story import nothing_against
from tests.console.factory import busy_desk
from tests.console.stories import Story, story

NARROW = (80, 24)
BLOCKED = "heat 5.63 % would become 8.83 %, entries are blocked from 8.00 %"


def refused(query: Query) -> CheckAnswer:
    return msgspec.structs.replace(nothing_against(query), refusals=(BLOCKED,))


def riskier(query: Query) -> CheckAnswer:
    assert isinstance(query, ModifyCheck)
    moved = query.stop is not None and query.stop < D("1.11843")
    return msgspec.structs.replace(nothing_against(query), risk=D("40") if moved else D("-40"))


def checks(told: Story) -> list[Query]:
    """What the engine was asked about orders by hand."""
    return [query for query in told.client.asked if isinstance(query, TicketCheck | ModifyCheck)]


def shown(told: Story) -> list[str]:
    fields = told.app.screen.query("#dialog Input, #dialog Choice")
    return [(field.id or "").removeprefix("field-") for field in fields if field.display]


async def fill(told: Story, **fields: str) -> None:
    """Give each field its text; a choice takes the presses that turn it."""
    for name, text in fields.items():
        widget = told.app.screen.query_one(f"#field-{name}")
        widget.focus()
        await told.pilot.pause()
        if text.startswith("right"):
            await told.press(*text.split())
        else:
            widget.value = ""  # type: ignore[attr-defined]
            await told.type(text)
    await answered(told)


async def answered(told: Story) -> None:
    """Until the engine was asked about what stands in the form now."""
    dialog = told.app.screen
    wanted = dialog.form.query(dialog._given())  # type: ignore[attr-defined]
    if not isinstance(wanted, str):
        await told.until(lambda: checks(told)[-1:] == [wanted], "the engine is asked")
    await told.settle()


async def entry(told: Story, **fields: str) -> None:
    await told.press("o")
    told.awake()
    await fill(told, size="0.5", stop_loss="1.117", **fields)


# -- an entry -------------------------------------------------------------------------------------------------


async def test_an_entry_is_checked_while_it_is_typed_and_sent_once() -> None:
    async with story(size=NARROW) as told:
        await entry(told, type="right", limit="1.118", reason="the news is out", word="BUY")
        asked = checks(told)[-1]
        terms = Terms(symbol=busy_desk().sessions[0].instrument.symbol, side=Side.BUY, quantity=D("0.5"),
                      type=OrderType.LIMIT, limit=D("1.118"))  # fmt: skip
        assert asked == TicketCheck(session=SessionId("eurusd-ema"), terms=terms, is_exit=False, stop_loss=D("1.117"))
        for words in ("LONG 0.6", "tick 0.00001", "67,177.80 USD", "5.63 % → 5.83 %", "nothing stands against it"):
            assert words in told.text
        assert told.client.sent == []
        await told.press("enter", "enter", "enter")
        (command,) = told.client.sent
        assert isinstance(command, SubmitByHand)
        assert (command.terms, command.reason, command.is_exit) == (terms, "the news is out", False)


async def test_what_comes_of_it_stays_on_screen_until_it_is_closed() -> None:
    async with story(size=NARROW) as told:
        await entry(told, reason="more", word="BUY")
        await told.press("enter")
        (command,) = told.client.sent
        made = msgspec.structs.replace(
            busy_desk().orders[-1], client_id=ClientOrderId("sxnew"), state=OrderState.SUBMITTING, broker_id=None,
            key=DecisionKey(f"eurusd-ema/{command.origin.id}/entry/1"), filled=D(0),
        )  # fmt: skip
        await told.becomes(msgspec.structs.replace(busy_desk(), orders=(made, *busy_desk().orders)))
        assert "sxnew  submitting" in told.text
        assert "no word of the broker yet" in told.text
        taken = msgspec.structs.replace(made, state=OrderState.FILLED, broker_id="P-9", filled=made.terms.quantity)
        await told.becomes(msgspec.structs.replace(busy_desk(), recent_orders=(taken,)))
        assert "accepted by the broker as P-9" in told.text
        assert "0.4 of 0.4" in told.text
        await told.press("escape")
        assert told.dialog == ""


async def test_what_would_be_refused_says_why_and_is_not_sent() -> None:
    async with story(size=NARROW) as told:
        told.client.answers = refused
        await entry(told, reason="all the same", word="BUY")
        assert BLOCKED in told.text
        await told.press("enter")
        assert "not sent: it would be refused" in told.text
        assert told.client.sent == []


async def test_an_entry_needs_reason_and_the_word_of_its_side() -> None:
    async with story(size=NARROW) as told:
        await entry(told, action="right", word="BUY")
        assert shown(told)[-2:] == ["reason", "word"]
        await told.press("enter")
        await fill(told, reason="short it")
        await told.press("enter")
        assert told.client.sent == [], "BUY is not the word of a sell"
        await fill(told, word="SELL")
        await told.press("enter")
        (command,) = told.client.sent
        assert isinstance(command, SubmitByHand)
        assert command.terms.side is Side.SELL


async def test_without_a_fresh_word_of_the_engine_no_entry_leaves() -> None:
    async with story(size=NARROW) as told:
        told.client.silence = EngineSilent("the engine does not answer (5 s)")
        await entry(told, reason="now", word="BUY")
        assert "nobody can say what this would meet: the engine does not answer (5 s)" in told.text
        await told.press("enter")
        assert "the engine has not said yet" in told.text
        assert told.client.sent == []
        told.client.silence = None
        await fill(told, size="0.6")
        told.watch.now += 5
        await told.press("enter")
        assert told.client.sent == [], "that word is five seconds old"


async def test_a_heat_without_a_total_is_not_added_up() -> None:
    async with story(size=NARROW) as told:
        floor = IncompleteHeat(at_least=D("4.2"), money=D(4200), missing=("x",), reporting=3, expected=4)
        told.client.answers = lambda query: msgspec.structs.replace(nothing_against(query), before=floor, after=None)
        await entry(told)
        assert "at least 4.2 %, nobody can say what it would become" in told.text


# -- an exit --------------------------------------------------------------------------------------------------


async def test_an_exit_shows_its_cap_and_takes_two_keys() -> None:
    async with story(size=NARROW) as told:
        await told.press("e")
        assert shown(told) == ["action", "size", "yes"]
        await answered(told)
        assert "at most 0.6 can be closed" in told.text
        assert "becomes a market order" in told.text
        told.awake()
        await told.press("y", "enter", "enter")
        (command,) = told.client.sent
        assert isinstance(command, SubmitByHand)
        assert (command.is_exit, command.terms.quantity, command.terms.side) == (True, D("0.6"), Side.SELL)


async def test_an_exit_waits_for_nobody() -> None:
    async with story(size=NARROW) as told:
        told.client.silence = EngineSilent("the engine does not answer (5 s)")
        told.watch.now += 30
        await told.press("e")
        told.awake()
        assert "ENGINE SILENT" in told.text
        await told.press("y", "enter")
        assert len(told.client.sent) == 1
        assert "Enter sends the same command again" in told.text
        await told.press("enter")
        first, second = told.client.sent
        assert first == second


async def test_the_key_that_opened_it_held_and_pasted_text_send_nothing() -> None:
    async with story(size=NARROW) as told:
        await told.press("e", "e", "e", "enter")
        told.awake()
        focused = told.app.screen.focused
        assert focused is not None
        focused.post_message(events.Paste("yes"))
        await told.press("enter")
        assert told.client.sent == []


# -- other terms ----------------------------------------------------------------------------------------------


async def modify(told: Story, at: int, **fields: str) -> None:
    await told.press("3", *["down"] * at, "m")
    told.awake()
    await fill(told, **fields)


async def test_a_stop_moved_nearer_takes_a_yes() -> None:
    async with story(size=NARROW) as told:
        told.client.answers = riskier
        await modify(told, 2, stop="1.119")
        assert checks(told)[-1] == ModifyCheck(order=ClientOrderId("sx0a1b2c3d4e5f6g7h8j9k"), stop=D("1.119"))
        assert shown(told) == ["size", "stop", "yes"]
        await fill(told, yes="y")
        await told.press("enter", "enter")
        (command,) = told.client.sent
        assert isinstance(command, ModifyOrder)
        assert (command.quantity, command.limit, command.stop) == (None, None, D("1.119"))
        assert "working" in told.text, "the order stays in sight"


async def test_a_stop_moved_farther_takes_a_reason_and_a_typed_word() -> None:
    async with story(size=NARROW) as told:
        told.client.answers = riskier
        await modify(told, 2, stop="1.117")
        assert shown(told) == ["size", "stop", "reason", "word"]
        await told.press("enter")
        assert told.client.sent == []
        await fill(told, reason="room for the news", word="MORE")
        await told.press("enter")
        (command,) = told.client.sent
        assert isinstance(command, ModifyOrder)
        assert (command.stop, command.reason) == (D("1.117"), "room for the news")


async def test_nothing_changed_is_nothing_sent() -> None:
    async with story(size=NARROW) as told:
        await modify(told, 2, yes="y")
        assert "nothing is changed yet" in told.text
        await told.press("enter")
        assert "not sent: nothing is changed yet" in told.text
        assert told.client.sent == []


# -- everywhere -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["o", "e", "f", "K"])
async def test_a_dialog_says_paper_or_live(key: str) -> None:
    for live, badge in ((False, "PAPER"), (True, "LIVE")):
        async with story(msgspec.structs.replace(busy_desk(), live=live), size=NARROW) as told:
            await told.press(key)
            box = told.app.screen.query_one("#dialog")
            assert (str(box.border_subtitle).strip(), box.has_class("-live")) == (badge, live)


async def test_a_viewer_is_offered_nothing_that_changes_the_desk() -> None:
    desk = msgspec.structs.replace(busy_desk(), view_only="Another desk commands this account")
    async with story(desk, size=NARROW) as told:
        for key in ("o", "e", "f", "F", "K", "p", "C", "3", "c", "m", "n", "r", "4", "a", "i", "exclamation_mark"):
            await told.press(key)
            assert told.dialog == ""
        assert told.client.sent == []
        assert checks(told) == []
        for words in ("Flatten", "Kill", "Order", "Cancel"):
            assert words not in told.text.splitlines()[-1]
        notes = [note.message for note in told.app._notifications]
        assert any("view only: Another desk commands" in note for note in notes)
        await told.press("5")
        assert told.app.current_mode == "heat", "looking about stays"


async def test_the_form_fits_80x24_with_every_field_and_every_line() -> None:
    async with story(size=NARROW) as told:
        told.client.answers = refused
        await entry(told, type="right right right", stop="1.12", limit="1.121")
        assert shown(told) == [
            "action",
            "size",
            "type",
            "stop",
            "limit",
            "stop_loss",
            "target",
            "tif",
            "reason",
            "word",
        ]
        box = told.app.screen.query_one("#dialog")
        assert box.region.bottom <= 24
        hint = told.app.screen.query_one("#hint")
        assert hint.region.bottom < box.region.bottom
        assert BLOCKED in told.text


@pytest.mark.parametrize(
    ("text", "value"),
    [("1", D(1)), (" 0.25 ", D("0.25")), ("", None), ("1e5", None), ("-1", None), ("NaN", None), ("1,5", None),
     ("١", None), ("1.", None), ("Infinity", None), ("9" * 40, None)],
)  # fmt: skip
def test_a_number_is_digits_and_nothing_else(text: str, value: D | None) -> None:
    assert number(text) == value


def test_a_number_field_is_above_zero_and_may_stay_empty_where_it_is_not_asked_for() -> None:
    size = Field("size", "size", FieldKind.NUMBER)
    assert [size.accepts(text) for text in ("", "0", "0.0", "x", "0.1")] == [False, False, False, False, True]
    assert Field("target", "target", FieldKind.NUMBER, required=False).accepts("")
