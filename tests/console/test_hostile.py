"""Whatever others write, no frame holds a control character, no line is too wide, and the console goes on."""

from __future__ import annotations

import pytest
from rich.cells import cell_len

from console import actions
from console.formatting import plain
from console.widgets.spans import fit, hatched, line, outside, text_of, wrap
from engine.queries import CheckAnswer
from tests.console.factory import NOW, busy_desk, incomplete_desk
from tests.console.hostile import HostileTrail, Poison, chunks, corpus, unfit
from tests.console.stories import Story, story

SCREENS = [action.key for action in actions.ACTIONS if action.name.startswith("go_")] or list("12345")
NO_ROOM = CheckAnswer(at=NOW, refusals=("heat would be over the block",), warnings=("it is wide",), plan="at once")
DIALOGS = ("f", "F", "K", "p", "P", "question_mark", "q", "ctrl+p")


def frame(told: Story) -> list[str]:
    """Every line as it goes to the terminal."""
    strips = told.app.screen._compositor.render_strips()
    return ["".join(segment.text for segment in strip) for strip in strips]


def check(told: Story, where: str) -> None:
    for number, row in enumerate(frame(told)):
        assert not unfit(row), f"{where}: row {number}: {sorted(unfit(row))} in {row!r}"
        assert cell_len(row) <= told.app.size.width, f"{where}: row {number} is too wide: {row!r}"
    assert not told.app.undrawn, f"{where}: {told.app.undrawn}"


def test_the_corpus_is_large_and_hostile() -> None:
    strings = corpus()
    assert len(strings) >= 2_000
    assert sum(bool(unfit(text)) for text in strings) > 1_000
    assert sum("[" in text for text in strings) > 500


def test_every_way_a_text_takes_makes_it_harmless() -> None:
    for text in corpus():
        shown = plain(text)
        assert not unfit(shown), repr(text)
        assert plain(shown) == shown, repr(text)
        for width in (1, 12, 40):
            assert cell_len(text_of(fit(line(outside(text)), width))) == width, repr(text)
        for rows in (wrap(text, 20), hatched(30, 4, (text,))):
            assert all(cell_len(text_of(row)) <= 30 for row in rows), repr(text)


@pytest.mark.parametrize("size", [(80, 24), (140, 40)])
async def test_the_whole_corpus_goes_through_every_screen_and_dialog(size: tuple[int, int]) -> None:
    strings = corpus()
    half = strings[::2] if size[0] == 80 else strings[1::2]  # both sizes together: each string once, on every screen
    async with story(size=size) as told:
        for number, handful in enumerate(chunks(half, 90)):
            poison = Poison(handful)
            await told.becomes(poison.desk(busy_desk() if number % 3 else incomplete_desk()))
            assert poison.at >= len(handful) * 0.9, "the handful fits into one desk"
            for key in SCREENS:
                await told.press(key)
                check(told, f"screen {key} of handful {number}")
            for key in DIALOGS if number % 8 == 0 else ():
                await told.press(key)
                check(told, f"dialog {key} of handful {number}")
                await told.press("escape")
            for word in handful[:3]:
                told.app.say(word)
            await told.settle()
            check(told, f"toasts of handful {number}")
            told.app.clear_notifications()


@pytest.mark.parametrize("size", [(80, 24), (140, 40)])
async def test_the_journal_and_an_orders_life_stand_hostile_rows(size: tuple[int, int]) -> None:
    poison = Poison(corpus())
    async with story(size=size) as told:
        told.client.trail = HostileTrail(poison)
        await told.press("6")
        for kind in range(8):
            check(told, f"kind {kind} of the journal")
            await told.press("down", "enter")
            check(told, f"what Enter opens on kind {kind}")
            await told.press("escape", "right_square_bracket")
        told.client.answers = lambda query: poison.answer(NO_ROOM)
        await told.press("1", "o")
        await told.type("2")
        check(told, "the ticket")
    assert poison.at > 100, "the journal drew what it was given"
