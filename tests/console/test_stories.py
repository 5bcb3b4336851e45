"""Stories of an operator at the keys: what is shown, what is asked, and the one command that leaves."""

import asyncio

import msgspec
import pytest
from textual import events
from textual.command import Hits

from console.client import EngineSilent
from console.screens.modals.palette import DeskCommands
from engine.commands import (
    Acknowledge,
    AcknowledgeAlert,
    AdoptOrder,
    AskNow,
    CancelEntries,
    CancelForeign,
    CancelOrder,
    Command,
    DeclareDead,
    Flatten,
    ForceExit,
    IgnoreForeign,
    InjectFault,
    Kill,
    Pause,
    ReconcileNow,
    ReleaseKill,
    ReleaseLatch,
    Resume,
    StandDown,
)  # fmt: skip
from engine.domain.orders import OrderState, Role
from engine.snapshot import Block, DeskSnapshot, Phase, Procedure
from tests.console.factory import NOW, blocked_desk, busy_desk, incomplete_desk
from tests.console.stories import Story, story

EVERYWHERE = (
    "SEXTANT", " PAPER ", "paper-1", "UTC", "HEAT", "8.4 %", "ENTRIES BLOCKED", "3 entries stopped", "exits are open",
    "CRITICAL", "q Quit", "acknowledge",
)  # fmt: skip


def change_session(desk: DeskSnapshot, at: int, **changes: object) -> DeskSnapshot:
    views = list(desk.sessions)
    views[at] = msgspec.structs.replace(views[at], **changes)
    return msgspec.structs.replace(desk, sessions=tuple(views))


def only(told: Story) -> Command:
    assert len(told.client.sent) == 1
    return told.client.sent[0]


# -------------------------------------------------------------------------------------------------- showing


async def test_every_screen_has_identity_lamps_heat_block_alerts_and_keys() -> None:
    async with story(blocked_desk(), size=(80, 24)) as told:
        for key in "123456":
            await told.press(key)
            for words in EVERYWHERE:
                assert words in told.text, (key, words)


async def test_u9_live_is_said_in_words() -> None:
    async with story(msgspec.structs.replace(busy_desk(), live=True)) as told:
        assert " LIVE " in told.text
        assert "PAPER" not in told.text


async def test_before_the_engine_speaks_nothing_is_claimed() -> None:
    async with story(empty=True) as told:
        assert "waiting for the engine" in told.text
        assert "PAPER" not in told.text
        await told.press("2", "3", "4", "5", "1")
        await told.becomes(busy_desk())
        assert "eurusd-ema" in told.text


async def test_u10_a_silent_engine_is_named_with_its_age() -> None:
    async with story() as told:
        told.watch.now += 12
        told.app.pull()
        assert "ENGINE SILENT 12s" in told.text
        await told.press("f")
        assert "these figures are that old" in told.text


async def test_an_incomplete_heat_is_never_a_total() -> None:
    async with story(incomplete_desk()) as told:
        await told.press("5")
        assert "≥ 4.2 %, 3 of 4 reporting" in told.text
        assert "not a total" in told.text


async def test_the_seam_is_proven_and_the_log_says_why_no_trade() -> None:
    async with story() as told:
        await told.press("2")
        assert "overlap 2" in told.text
        assert "no cross" in told.text
        await told.press("right_square_bracket", "plus", "minus", "left", "right")
        assert "BTCUSD 1m" in str(told.app.screen.query_one("#plot").border_title)


async def test_the_cursor_selects_the_session_whose_chart_is_shown() -> None:
    async with story() as told:
        await told.press("down", "down")
        assert told.app.session == "es-range"
        assert "ESH0" in str(told.app.screen.query_one("#chart").border_title)


async def test_a_click_on_a_lamp_opens_its_screen() -> None:
    async with story() as told:
        await told.pilot.click("#lamps", offset=(30, 0))
        await told.settle()
        assert told.app.current_mode == "orders"


async def test_help_lists_every_action() -> None:
    async with story(size=(100, 60)) as told:
        await told.press("question_mark")
        assert "Everywhere" in told.text
        await told.press("end")
        assert "stance" in told.text
        await told.press("escape")
        assert told.app.screen.id != "help"


# ------------------------------------------------------------------------------------------- one story per action


async def test_flatten_states_asks_sends_once_and_shows_every_step() -> None:
    async with story() as told:
        await told.press("f")
        assert told.dialog == "Flatten eurusd-ema"
        for words in ("LONG 0.6", "confirmed 12s ago", "last tick 0.4s ago", "stop SELL 0.6"):
            assert words in told.text
        await told.press("f", "f", "enter")
        assert told.client.sent == []
        told.awake()
        await told.press("y", "enter", "enter", "enter")
        command = only(told)
        assert isinstance(command, Flatten)
        assert (command.session, command.origin.operator, command.origin.place) == ("eurusd-ema", "operator", "desk")
        steps = ((NOW, "entries paused"), (NOW + 900, "closed 0.6 at 1.11960"))
        running = Procedure(id=command.origin.id, title="flatten", session=command.session, started=NOW, lines=steps,
                            ok=None, result="")  # fmt: skip
        await told.becomes(msgspec.structs.replace(busy_desk(), procedures=(running,)))
        assert "closed 0.6 at 1.11960" in told.text
        ended = msgspec.structs.replace(running, ok=True, result="flat confirmed at 13:52:09")
        await told.becomes(msgspec.structs.replace(busy_desk(), procedures=(ended,)))
        assert "flat confirmed at 13:52:09" in told.text
        await told.press("escape")
        assert told.dialog == ""


async def test_a_key_that_waited_counts_from_when_it_was_pressed() -> None:
    async with story() as told:
        twice = events.Key("p", "p")  # pressed before the dialog is there, answered when the machine comes to it
        await told.press("p")
        told.watch.now += 60
        twice.time -= 60
        told.app.post_message(twice)
        await told.settle()
        await told.type("y")
        await told.press("enter")
        assert isinstance(only(told), Pause)


async def test_escape_is_no_and_a_second_dialog_cannot_open() -> None:
    async with story() as told:
        await told.press("F", "K", "escape")
        assert told.dialog == ""
        assert told.client.sent == []


async def test_u8_pasted_text_is_no_answer_and_no_key() -> None:
    async with story() as told:
        told.app.post_message(events.Paste("Fq5"))
        await told.settle()
        assert told.dialog == ""
        assert told.app.current_mode == "desk"
        await told.press("f")
        told.awake()
        told.app.screen.post_message(events.Paste("yes"))
        focused = told.app.screen.focused
        assert focused is not None
        focused.post_message(events.Paste("yes"))
        await told.press("enter")
        assert told.client.sent == []


async def test_a_silent_engine_gets_the_same_command_again_under_the_same_id() -> None:
    async with story() as told:
        told.client.silence = EngineSilent("the engine does not answer (5 s)")
        await told.press("K")
        told.awake()
        await told.type("y")
        await told.press("enter")
        assert "the engine does not answer (5 s)" in told.text
        told.client.silence = None
        await told.press("enter")
        first, second = told.client.sent
        assert isinstance(first, Kill)
        assert first == second


async def test_a_refusal_is_shown_and_the_next_try_is_a_new_command() -> None:
    async with story() as told:
        told.client.refusal = "nothing to close"
        await told.press("f")
        told.awake()
        await told.press("y", "enter")
        assert "nothing to close" in told.text
        await told.press("enter")
        assert len({command.origin.id for command in told.client.sent}) == 2


async def answer(told: Story, *fields: str) -> None:
    """Fill the dialog's fields in their order; an empty one is left as it is."""
    told.awake()
    inputs = list(told.app.screen.query("#dialog Input, #dialog Choice"))
    for widget, text in zip(inputs, fields, strict=True):
        widget.focus()
        await told.pilot.pause()
        if text in ("left", "right"):
            await told.press(text)
        else:
            await told.type(text)
    await told.press("enter")


LOST = msgspec.structs.replace(
    busy_desk(),
    orders=tuple(msgspec.structs.replace(o, state=OrderState.LOST) if o.is_in_doubt else o for o in busy_desk().orders),
)
DOUBTFUL_EXIT = msgspec.structs.replace(
    busy_desk(),
    orders=tuple(msgspec.structs.replace(o, role=Role.EXIT) if o.is_in_doubt else o for o in busy_desk().orders),
)


@pytest.mark.parametrize(
    ("desk", "keys", "fields", "kind", "expected"),
    [
        (busy_desk(), "F", ("", "y"), Flatten, {"session": None, "foreign": ()}),
        (busy_desk(), "K", ("right", "yes"), Kill, {"flatten": True}),
        (msgspec.structs.replace(busy_desk(), killed=True), "R", ("calm again", "RELEASE"), ReleaseKill,
         {"word": "RELEASE", "reason": "calm again"}),
        (busy_desk(), "p", ("right", "y"), Pause, {"session": "eurusd-ema", "keep_resting": True}),
        (change_session(busy_desk(), 0, paused=True), "u", ("news is out",), Resume,
         {"session": "eurusd-ema", "reason": "news is out"}),
        (busy_desk(), "P", ("", "y"), Pause, {"session": None, "keep_resting": False}),
        (change_session(busy_desk(), 0, paused=True), "U", ("news is out",), Resume, {"session": None}),
        (busy_desk(), "C", ("y",), CancelEntries, {"session": None}),
        (busy_desk(), "3 down c", ("y",), CancelOrder, {"order": "sx3a1b2c3d4e5f6g7h8j9k"}),
        (DOUBTFUL_EXIT, "3 x", ("REVERSE",), ForceExit, {"session": "btc-breakout", "word": "REVERSE"}),
        (LOST, "3 D", ("asked the broker", "DEAD"), DeclareDead, {"order": "sx4k1p9w7c2m5v8b3n6q0t"}),
        (busy_desk(), "4 down a", ("seen",), Acknowledge, {"disagreement": "position/paper-1/ESH0/1", "note": "seen"}),
        (busy_desk(), "4 o", ("", "mine"), AdoptOrder, {"order": "F-77", "session": "btc-breakout", "reason": "mine"}),
        (busy_desk(), "4 i", ("not mine",), IgnoreForeign, {"disagreement": "unknown-order/paper-1/F-77"}),
        (busy_desk(), "4 c", ("y",), CancelForeign, {"account": "paper-1", "order": "F-77"}),
        (change_session(busy_desk(), 0, latches=("size",)), "L", ("", "checked"), ReleaseLatch,
         {"session": "eurusd-ema", "latch": "size", "reason": "checked"}),
    ],
)  # fmt: skip
async def test_a_dialog_makes_its_command(
    desk: DeskSnapshot, keys: str, fields: tuple[str, ...], kind: type, expected: dict[str, object]
) -> None:
    async with story(desk, size=(80, 24)) as told:
        await told.press(*keys.split())
        assert told.dialog
        await answer(told, *fields)
        command = only(told)
        assert isinstance(command, kind)
        assert {name: getattr(command, name) for name in expected} == expected


@pytest.mark.parametrize(
    ("keys", "kind"), [("r", ReconcileNow), ("3 n", AskNow), ("exclamation_mark", AcknowledgeAlert)]
)
async def test_u7_what_harms_nothing_goes_at_once_and_a_double_press_once(keys: str, kind: type) -> None:
    async with story() as told:
        await told.press(*keys.split(), keys.split()[-1])
        assert isinstance(only(told), kind)


async def test_what_cannot_be_done_now_says_why() -> None:
    async with story() as told:
        await told.press("R")
        assert told.dialog == ""
        notes = [note.message for note in told.app._notifications]
        assert any("the kill latch is not set" in note for note in notes)


async def test_faults_are_in_the_palette_and_nowhere_else() -> None:
    async with story() as told:
        await told.palette("margin desk")
        assert told.dialog.startswith("Fault on paper-1")
        await answer(told, "")
        command = only(told)
        assert isinstance(command, InjectFault)
        assert (command.fault, command.symbol, command.argument) == ("margin_desk", "EURUSD", "1")


async def test_a_palette_that_was_left_takes_nothing_else_with_it() -> None:
    async with story() as told:
        desk = told.app.screen
        await told.press("ctrl+p")
        palette = told.app.screen
        await told.press("escape")
        assert told.app.screen is desk
        _ = palette.dismiss()  # a second Enter or Escape that was on its way
        await told.settle()
        assert told.app.screen is desk


async def test_enter_in_the_palette_means_what_was_typed_however_fast(monkeypatch: pytest.MonkeyPatch) -> None:
    found, search = asyncio.Event(), DeskCommands.search

    async def slow(self: DeskCommands, query: str) -> Hits:
        await found.wait()
        async for hit in search(self, query):
            yield hit

    monkeypatch.setattr(DeskCommands, "search", slow)
    async with story() as told:
        await told.press("ctrl+p")
        await told.pilot.press(*"margin")
        told.app.post_message(events.Key("enter", "\r"))
        await told.pilot.pause()
        found.set()
        await told.until(lambda: told.dialog != "" or not told.app.is_running, "a dialog opens")
        assert told.dialog.startswith("Fault on paper-1")
        assert not told.client.sent


async def test_the_enter_that_chose_a_fault_does_not_show_it() -> None:
    async with story() as told:
        await told.palette("margin desk")
        await told.press("enter")
        assert told.dialog.startswith("Fault on paper-1")
        assert not told.client.sent, "pressed twice, it still only opened the dialog"
        told.awake()
        await told.press("enter")
        assert isinstance(only(told), InjectFault)


async def test_a_dead_session_is_stood_down_from_the_palette() -> None:
    async with story(change_session(busy_desk(), 0, phase=Phase.DEAD)) as told:
        await told.palette("stand down")
        await answer(told, "confirmed by phone")
        assert isinstance(only(told), StandDown)


async def test_themes_change_and_come_round() -> None:
    async with story() as told:
        names = []
        for _ in range(3):
            await told.press("t")
            names.append(told.app.theme)
        assert names == ["sextant-contrast", "sextant-light", "sextant"]


async def test_what_cannot_be_drawn_leaves_the_keys_alive() -> None:
    async with story() as told:
        await told.becomes(change_session(busy_desk(), 0, last_price="nonsense"))
        assert told.app.undrawn
        await told.press("F")
        assert told.dialog == "Flatten every session"
        told.app.undrawn = ""
        told.client.current = busy_desk()


async def test_u2_u3_text_from_outside_is_plain() -> None:
    evil = "[red]\x1b[31m[/nope] \x07\u202e boom"
    async with story(change_session(busy_desk(), 0, blocked=(Block(evil, None),), phase_detail=evil)) as told:
        for key in "12345":
            await told.press(key)
            assert "[red]" in told.text or key != "1"
            assert not any(ord(letter) < 32 and letter != "\n" for letter in told.text)
