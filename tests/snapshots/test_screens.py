"""Few pictures: each screen busy, the entry block, a dialog, no colour. `make snapshots-update` accepts new ones."""

from collections.abc import Awaitable, Callable
from decimal import Decimal as D

import msgspec
import pytest
from textual.pilot import Pilot

from console.app import SextantApp
from console.widgets.lines import Pane
from console.widgets.spans import text_of
from engine.queries import CheckAnswer, Query
from engine.snapshot import DeskSnapshot
from screenshots.story import nothing_against
from tests.console.factory import StillClient, blocked_desk, busy_desk, incomplete_desk

Compare = Callable[..., bool]
NARROW, WIDE = (80, 24), (140, 40)


def console(desk: DeskSnapshot | None, *, color: bool = True) -> SextantApp:
    """A console whose clocks stand still."""
    return SextantApp(
        StillClient(desk), operator="operator", place="desk", color=color, monotonic=lambda: 100.0, ids=lambda: "id-1"
    )


def still(*keys: str) -> Callable[[Pilot[None]], Awaitable[None]]:
    """Press keys, then let everything come to rest with the cursor of an input not blinking."""

    async def before(pilot: Pilot[None]) -> None:
        await pilot.app.workers.wait_for_complete()
        await pilot.pause()
        for key in keys:
            await pilot.press(key)
            await pilot.pause()
        await pilot.app.workers.wait_for_complete()
        for field in pilot.app.screen.query("Input"):
            field.cursor_blink = False  # type: ignore[attr-defined]
        await pilot.pause(0.2)

    return before


@pytest.mark.parametrize("size", [NARROW, WIDE], ids=["80x24", "140x40"])
@pytest.mark.parametrize(
    "key",
    ["1", "2", "3", "4", "5", "6"],
    ids=["desk", "market", "orders", "reconciliation", "heat", "journal"],
)
def test_screen(snap_compare: Compare, key: str, size: tuple[int, int]) -> None:
    assert snap_compare(console(busy_desk()), terminal_size=size, run_before=still(key))


@pytest.mark.parametrize("size", [NARROW, WIDE], ids=["80x24", "140x40"])
def test_crosshair(snap_compare: Compare, size: tuple[int, int]) -> None:
    assert snap_compare(console(busy_desk()), terminal_size=size, run_before=still("2", *["left"] * 17))


def test_longer_timeframe(snap_compare: Compare) -> None:
    assert snap_compare(console(busy_desk()), terminal_size=WIDE, run_before=still("2", "w", "plus"))


def test_chart_without_colour(snap_compare: Compare, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    assert snap_compare(console(busy_desk(), color=False), terminal_size=NARROW, run_before=still("2", "plus"))


@pytest.mark.parametrize("size", [NARROW, WIDE], ids=["80x24", "140x40"])
def test_entries_blocked(snap_compare: Compare, size: tuple[int, int]) -> None:
    assert snap_compare(console(blocked_desk()), terminal_size=size, run_before=still())


def test_heat_incomplete(snap_compare: Compare) -> None:
    assert snap_compare(console(incomplete_desk()), terminal_size=NARROW, run_before=still("5"))


def test_flatten_dialog(snap_compare: Compare) -> None:
    assert snap_compare(console(busy_desk()), terminal_size=NARROW, run_before=still("f"))


def test_quit_dialog(snap_compare: Compare) -> None:
    assert snap_compare(console(busy_desk()), terminal_size=NARROW, run_before=still("q"))


def test_life_of_an_order(snap_compare: Compare) -> None:
    assert snap_compare(console(busy_desk()), terminal_size=NARROW, run_before=still("3", "enter"))


def test_waiting_for_the_engine(snap_compare: Compare) -> None:
    assert snap_compare(console(None), terminal_size=NARROW, run_before=still())


def test_without_colour(snap_compare: Compare, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    assert snap_compare(console(busy_desk(), color=False), terminal_size=WIDE, run_before=still())


@pytest.mark.parametrize("size", [NARROW, WIDE], ids=["80x24", "140x40"])
def test_ticket(snap_compare: Compare, size: tuple[int, int]) -> None:
    async def filled(pilot: Pilot[None]) -> None:
        await still("o", "tab", *"0.5", "tab", "right", "tab", *"1.118", "tab", *"1.117")(pilot)
        while "8.84 %" not in "".join(text_of(row) for row in pilot.app.screen.query_one("#steps", Pane)._drawn):
            await pilot.pause(0.05)

    app = console(busy_desk())
    app.client.answers = over_the_block  # type: ignore[attr-defined]
    assert snap_compare(app, terminal_size=size, run_before=filled)


def over_the_block(query: Query) -> CheckAnswer:
    """An entry that heat would stop."""
    why = "heat 5.63 % would become 8.83 %, entries are blocked from 8.00 %"
    return msgspec.structs.replace(nothing_against(query), risk=D("3200.4"), after=D("8.84"), refusals=(why,))


def test_stopped_entries(snap_compare: Compare) -> None:
    assert snap_compare(console(blocked_desk()), terminal_size=NARROW, run_before=still("5", "v"))


def test_heat_limits_dialog(snap_compare: Compare) -> None:
    assert snap_compare(console(busy_desk()), terminal_size=NARROW, run_before=still("5", "l"))
