"""Stories of the heat and reconciliation screens: limits, stopped entries, what of the ledger is shown, what is old."""

from __future__ import annotations

from decimal import Decimal as D

import msgspec

from console.replica import Replica
from console.screens.reconciliation import Filter, after, ledger_title
from engine.commands import ChangeHeatLimits
from engine.domain.disagreements import DisagreementKind
from tests.console.factory import blocked_desk, busy_desk
from tests.console.stories import Story, story

NARROW, WIDE = (80, 24), (140, 40)


async def give(told: Story, **fields: str) -> None:
    for name, text in fields.items():
        field = told.app.screen.query_one(f"#field-{name}")
        field.focus()
        field.value = ""  # type: ignore[attr-defined]
        await told.pilot.pause()
        await told.type(text)


# -- limits ---------------------------------------------------------------------------------------------------


async def test_a_tighter_block_takes_a_yes() -> None:
    async with story(size=NARROW) as told:
        await told.press("5", "l")
        told.awake()
        assert "block, now 8" in told.text
        await give(told, block="7", yes="y")
        await told.press("enter", "enter")
        (command,) = told.client.sent
        assert isinstance(command, ChangeHeatLimits)
        assert (command.warn, command.block, command.release) == (None, D(7), None)
        assert command.reason == "tightened by hand"
        assert told.dialog == ""


async def test_a_looser_block_takes_a_reason_and_a_typed_word() -> None:
    async with story(size=NARROW) as told:
        await told.press("5", "l")
        told.awake()
        await give(told, block="9")
        await told.press("enter")
        assert told.client.sent == []
        await give(told, reason="agreed by two", word="RAISE")
        await told.press("enter")
        (command,) = told.client.sent
        assert isinstance(command, ChangeHeatLimits)
        assert (command.block, command.reason) == (D(9), "agreed by two")


async def test_limits_that_stay_as_they_are_are_not_sent() -> None:
    async with story(size=NARROW) as told:
        await told.press("5", "l")
        told.awake()
        await give(told, yes="y")
        await told.press("enter")
        assert "not sent: nothing is changed yet" in told.text
        assert told.client.sent == []


async def test_a_groups_block_is_set_beside_the_portfolios() -> None:
    async with story(size=NARROW) as told:
        await told.press("5", "l")
        told.awake()
        assert "group us-index  2.6 %, its block now 4 %" in told.text
        await give(told, **{"group-0": "3", "yes": "y"})
        await told.press("enter")
        (command,) = told.client.sent
        assert isinstance(command, ChangeHeatLimits)
        assert (command.block, command.groups) == (None, {"us-index": D(3)})


async def test_limits_that_cannot_be_say_why_before_they_are_sent() -> None:
    async with story(size=NARROW) as told:
        await told.press("5", "l")
        told.awake()
        await give(told, block="5", yes="y")
        await told.press("enter")
        assert "warn 6 must be above 0 and below block 5" in told.text
        assert told.client.sent == []


# -- heat -----------------------------------------------------------------------------------------------------


async def test_stopped_entries_are_listed_with_their_number_and_reason() -> None:
    async with story(blocked_desk(), size=WIDE) as told:
        await told.press("5")
        title = str(told.app.screen.query_one("#stopped").border_title)
        assert title == "Stopped entries · 3 · 3 since 13:50:32"
        for words in ("13:51:47", "▲ BUY 0.25", "would become 9.12 %"):
            assert words in told.text


async def test_on_a_low_terminal_they_take_the_place_of_what_heat_is_made_of() -> None:
    async with story(blocked_desk(), size=NARROW) as told:
        await told.press("5")
        screen = told.app.screen
        assert (screen.query_one("#stopped").display, screen.query_one("#terms").display) == (False, True)
        await told.press("v")
        assert "would become 9.12 %" in told.text
        assert screen.query_one("#stopped").region.bottom <= 22
        await told.press("v")
        assert (screen.query_one("#stopped").display, screen.query_one("#terms").display) == (False, True)


async def test_old_figures_are_drawn_old() -> None:
    def inks(told: Story, words: str) -> set[str]:
        lines = [row for pane in told.app.screen.query("Lines") for row in pane._drawn]  # type: ignore[attr-defined]
        return {span.ink for row in lines for span in row if words in span.text}

    desk = busy_desk()
    old = msgspec.structs.replace(
        desk, heat=msgspec.structs.replace(desk.heat, missing=("equity of paper-1 is 150 s old",))
    )
    async with story(old, size=WIDE) as told:
        await told.press("5")
        assert inks(told, "99,979.00") == {"stale", "text"}, "the account's word, and the total it was divided by"
    async with story(size=WIDE) as told:
        await told.press("5")
        assert "stale" not in inks(told, "99,979.00") | inks(told, "2,600.00")
        told.watch.now += 10
        told.app.pull()
        assert "stale" in inks(told, "99,979.00")
        assert inks(told, "read 12s ago") == {"warn"}


# -- the ledger -----------------------------------------------------------------------------------------------


async def test_the_ledger_is_filtered_and_what_is_hidden_is_said() -> None:
    async with story(size=WIDE) as told:
        await told.press("4")
        table = told.app.screen.query_one("#differences")
        assert "missing fill" in told.text
        await told.press("v")
        assert "missing fill" not in told.text.split("Next checks")[0]
        assert str(table.border_title) == "Disagreements · 2 open · open only"
        await told.press("v", "y")
        assert "only missing fill · 2 OPEN HIDDEN" in str(table.border_title)
        await told.press("y")
        assert "only position · 1 OPEN HIDDEN" in str(table.border_title)
        await told.press("v", "s", "s")
        assert "Nothing matches what is shown." in told.text
        assert "open only · only position · only " in str(table.border_title)


async def test_nothing_hidden_by_a_filter_is_acted_on() -> None:
    async with story(size=WIDE) as told:
        await told.press("4", "y", "v", "a")
        assert told.dialog == ""
        assert told.client.sent == []


def test_filters_go_round_and_leave_a_value_that_is_gone() -> None:
    assert [after(None, ["a", "b"]), after("a", ["a", "b"]), after("b", ["a", "b"]), after("x", ["a"])] == [
        "a", "b", None, None,
    ]  # fmt: skip
    desk = Replica()
    desk.fold(busy_desk(), (), 0.0)
    ones = desk.disagreements
    both = [one for one in ones if Filter(kind=DisagreementKind.POSITION, only_open=True).lets(one)]
    assert [one.kind for one in both] == [DisagreementKind.POSITION]
    assert ledger_title([], [], Filter()) == "Disagreements"
    assert ledger_title(ones, ones, Filter()) == "Disagreements · 2 open"
