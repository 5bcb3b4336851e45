"""Stories at the journal: kinds, filtering while one types, older pages, live lines, the life of an order, export."""

import asyncio
import json
from pathlib import Path

import pytest

from console.client import EngineSilent
from console.screens.journal import JournalScreen
from console.screens.modals.export import ExportDialog
from console.widgets.lister import Lister
from engine.queries import Answer, JournalLine, JournalPage, OrderLife, Query
from tests.console.factory import NOW
from tests.console.stories import Story, story


def lines(told: Story) -> Lister:
    return told.app.screen.query_one(Lister)


def there(folder: Path) -> list[Path]:
    return list(folder.iterdir())


async def typed(told: Story, text: str) -> None:
    """Type into the filter and let its pause pass."""
    await told.type(text)
    screen = told.app.screen
    assert isinstance(screen, JournalScreen)
    while screen.book.wanted.text != screen.query_one("#filter").value:  # type: ignore[attr-defined]
        await told.pilot.pause(0.02)
    await told.settle()


async def test_six_shows_what_happened_newest_first() -> None:
    async with story(size=(80, 24)) as told:
        await told.press("6")
        entries = lines(told).entries
        assert [entry.at for entry in entries] == sorted((entry.at for entry in entries), reverse=True)
        for words in ("order", "override", "in doubt: submit"):
            assert any(words in f"{entry.kind} {entry.text}" for entry in entries)
        assert "6 Journal" in told.text


async def test_the_filter_narrows_while_one_types_and_its_letters_are_no_keys() -> None:
    async with story() as told:
        await told.press("6", "slash")
        await typed(told, "kill q")
        assert told.dialog == ""
        assert {entry.kind for entry in lines(told).entries} == {"latch"} or not lines(told).entries
        await told.press("escape")
        assert len(lines(told).entries) > 50
        assert told.app.focused is lines(told)
        await told.press("slash")
        await typed(told, "news at")
        assert [entry.kind for entry in lines(told).entries] == ["override"]
        await told.press("enter")
        assert told.app.focused is lines(told)
        assert lines(told).border_title == "all with “news at” · 1 of 1"


async def test_kinds_go_round_by_key_and_come_by_click() -> None:
    async with story() as told:
        await told.press("6")
        kinds = []
        for _ in range(8):
            await told.press("right_square_bracket")
            screen = told.app.screen
            assert isinstance(screen, JournalScreen)
            kinds.append(str(screen.book.wanted.kind))
        assert kinds == ["orders", "fills", "trades", "overrides", "disagreements", "decisions", "jobs", "all"]
        await told.press("left_square_bracket")
        assert "LookupError: no contract terms" in told.text
        await told.pilot.click("#chips", offset=(23, 0))
        await told.settle()
        assert "LONG 50000 EURUSD" in told.text


async def test_nothing_fits_says_the_way_out() -> None:
    async with story(size=(80, 24)) as told:
        await told.press("6", "slash")
        await typed(told, "nosuchword")
        assert "Nothing fits all with “nosuchword”." in told.text


async def test_older_pages_come_as_the_cursor_nears_the_end() -> None:
    async with story() as told:
        assert told.client.trail is not None
        told.client.trail.lines = [
            JournalLine(number=n, at=n * 1000, kind="order", session=None, subject=f"o-{n}", text="accepted")
            for n in range(350, 0, -1)
        ]
        await told.press("6")
        assert len(lines(told).entries) == 100
        await told.press("end")
        assert len(lines(told).entries) == 200
        await told.press("end", "end", "end")
        assert len(lines(told).entries) == 350
        assert lines(told).border_title == "all · 350 of 350"


async def test_live_lines_arrive_at_the_top_and_move_no_cursor() -> None:
    async with story() as told:
        await told.press("6", *["down"] * 30)
        table = lines(told)
        before, drawn = table.cursor, list(table._drawn)
        assert told.client.trail is not None
        kept = told.client.trail.lines
        new = JournalLine(number=kept[0].number + 1, at=NOW, kind="latch", session=None, subject="d", text="it is new")
        told.client.trail.lines = [new, *kept]
        told.watch.now += 6
        await told.settle()
        await told.settle()
        assert table.cursor == before
        assert table._drawn[1:] == drawn[1:]
        assert table.entries[0].text == "it is new"
        await told.press("home")
        assert "it is new" in told.text


async def test_a_silent_engine_is_said_and_asked_again() -> None:
    async with story(size=(80, 24)) as told:
        told.client.silence = EngineSilent("the engine does not answer (5 s)")
        await told.press("6")
        assert "No answer from the audit trail." in told.text
        assert "the engine does not answer (5 s)" in told.text
        told.client.silence = None
        told.watch.now += 2
        await told.settle()
        await told.settle()
        assert len(lines(told).entries) > 50


async def test_a_long_search_shows_how_far_it_is() -> None:
    async with story() as told:
        held = asyncio.Event()
        answer = told.client.ask

        async def slow(query: Query) -> Answer:
            if isinstance(query, JournalPage) and query.text:
                await held.wait()
            return await answer(query)

        told.client.ask = slow  # type: ignore[method-assign]
        await told.press("6", "slash")
        await told.pilot.press("k", "i", "l", "l")
        screen = told.app.screen
        assert isinstance(screen, JournalScreen)
        while screen.book.wanted.text != "kill":
            await told.pilot.pause(0.02)
        assert "Searching …" in told.text
        told.watch.now += 1
        told.app.pull()
        await told.pilot.pause()
        assert "the newest are looked through first …" in str(lines(told).border_title)
        held.set()
        await told.settle()
        assert "kill released" in told.text


@pytest.mark.parametrize("size", [(80, 24), (140, 40)])
async def test_enter_opens_the_life_of_an_order_from_journal_and_orders(size: tuple[int, int]) -> None:
    async with story(size=size) as told:
        for key in ("6", "3"):
            await told.press(key, "enter")
            for words in ("in doubt: submit", "evidence", "What happened", "submitting: entry buy 0.25 BTCUSD"):
                assert words in told.text, words
            assert any(isinstance(query, OrderLife) for query in told.client.asked)
            await told.press("end", "escape")


async def test_a_life_without_an_answer_says_so() -> None:
    async with story() as told:
        await told.press("3")
        told.client.silence = EngineSilent("the engine does not answer (5 s)")
        await told.press("enter")
        assert "no answer: the engine does not answer (5 s)" in str(told.app.screen.query_one("#life").border_subtitle)


async def test_export_writes_what_is_filtered_once_and_not_over_it(tmp_path: Path) -> None:
    async with story(exports=tmp_path) as told:
        await told.press("6", "right_square_bracket", "right_square_bracket", "right_square_bracket", "e")
        assert told.dialog == "Export"
        await told.press("f2", "enter")
        assert "2 rows in" in told.text
        (file,) = there(tmp_path)
        assert [row["profit"] for row in json.loads(file.read_text())] == ["42.80", "-15.20"]
        await told.press("enter", "e", "f2", "enter")
        assert "exists already" in told.text
        await told.press("escape")
        assert told.dialog == ""


async def test_escape_gives_an_export_up_and_leaves_no_file(tmp_path: Path) -> None:
    async with story(exports=tmp_path) as told:
        await told.press("6")
        begun = asyncio.Event()

        async def never(query: Query) -> Answer:
            begun.set()
            await asyncio.get_running_loop().create_future()
            raise AssertionError("nobody answers")

        answer, told.client.ask = told.client.ask, never  # type: ignore[method-assign]
        await told.pilot.press("e")
        await told.pilot.press("enter")
        await begun.wait()
        told.app.pull()
        await told.pilot.pause()
        assert isinstance(told.app.screen, ExportDialog)
        assert "writing … 0 rows" in told.text
        told.client.ask = answer  # type: ignore[method-assign]
        await told.pilot.press("escape")
        await told.settle()
        assert there(tmp_path) == []


async def test_a_bell_goes_to_the_terminal_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    async with story() as told:
        written: list[str] = []
        monkeypatch.setattr(told.app._driver, "write", written.append)
        told.app.ring("")
        told.app.ring("\x07")
        assert written == ["\x07"]
