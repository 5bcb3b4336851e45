"""Stories of an operator at the chart: every action of the table, by key, by mouse and by name."""

import msgspec
import pytest
from textual import events

from console import actions
from console.widgets.chart_pane import Chart
from console.widgets.lines import Pane
from console.widgets.spans import text_of
from console.widgets.table import Table
from engine.domain.freshness import Freshness
from engine.snapshot import Block, Phase
from tests.console.factory import NOW, busy_desk, eurusd
from tests.console.stories import Story, story


def chart(told: Story) -> Chart:
    return told.app.screen.query_one(Chart)


def figures(told: Story) -> str:
    return text_of(chart(told)._drawn[0])


async def test_the_crosshair_walks_tells_and_leaves() -> None:
    async with story(size=(80, 24)) as told:
        await told.press("2", *["left"] * 17)
        assert figures(told).startswith(" 13:36 ▼ O 1.12038 ")
        assert "▲ entry 0.6" in figures(told)
        await told.press("right")
        assert figures(told).startswith(" 13:37 ")
        before = chart(told).viewpoint.cross
        await told.press("up", "down", "k", "j", "h", "l")
        assert chart(told).viewpoint.cross == before
        await told.press("escape")
        assert "closes in 53s" in figures(told)


async def test_the_crosshairs_candle_is_marked_in_the_decision_log() -> None:
    async with story() as told:
        await told.press("2", "left", "left", "left")
        assert "▸13:50:00" in told.text
        await told.press("escape")
        assert "▸" not in told.text


async def test_older_and_newer_candles_and_both_ends() -> None:
    async with story(size=(80, 24)) as told:
        await told.press("2", "pageup")
        assert "End shows the newest" in figures(told)
        await told.press("pagedown")
        assert "closes in 53s" in figures(told)
        await told.press("home")
        sheet = chart(told).viewpoint.sheet
        assert sheet is not None
        assert sheet.bars[0].start == eurusd().candles[0].start
        await told.press("end")
        assert "closes in 53s" in figures(told)
        await told.press("shift+left", "shift+right")
        assert "closes in 53s" in figures(told)


@pytest.mark.parametrize("screen", ["1", "2"])
async def test_zoom_and_timeframe_work_on_both_charts(screen: str) -> None:
    async with story() as told:
        await told.press(screen, "plus", "w")
        assert chart(told).viewpoint.pitch == 4
        assert "EURUSD 5m (5 × 1m)" in str(chart(told).border_title)
        await told.press("minus", "minus", "W", "W")
        assert chart(told).viewpoint.pitch == 1
        assert "EURUSD 4h (240 × 1m)" in str(chart(told).border_title)


async def test_the_mouse_points_drags_and_turns_its_wheel() -> None:
    async with story() as told:
        await told.press("2")
        where = chart(told)
        await told.pilot.click(where, offset=(20, 8))
        pointed = where.viewpoint.cross
        assert pointed is not None
        region = where.region

        def move(kind: type[events.MouseEvent], x: int, button: int, *, shift: bool = False) -> events.MouseEvent:
            return kind(where, x, 8, 0, 0, button, shift, False, False, screen_x=region.x + x, screen_y=region.y + 8)

        where.post_message(move(events.MouseMove, 40, 1))
        await told.settle()
        dragged = where.viewpoint.cross
        assert dragged is not None
        assert dragged > pointed
        where.post_message(move(events.MouseMove, 20, 0))
        await told.settle()
        assert where.viewpoint.cross == dragged
        where.post_message(move(events.MouseScrollUp, 20, 0))
        await told.settle()
        assert where.viewpoint.pitch == 4
        where.post_message(move(events.MouseScrollUp, 20, 0, shift=True))
        await told.settle()
        assert "End shows the newest" in figures(told)
        for kind in (events.MouseScrollRight, events.MouseScrollLeft, events.MouseScrollDown):
            where.post_message(move(kind, 20, 0))
            await told.settle()
        assert where.viewpoint.pitch == 2
        assert "End shows the newest" in figures(told)


async def test_the_charts_actions_are_in_help_and_palette() -> None:
    names = {action.name for action in actions.ACTIONS if action.group == "chart"}
    assert len(names) == 15
    async with story(size=(100, 60)) as told:
        await told.press("2", "question_mark")
        seen = told.text
        for _ in range(6):
            await told.press("pagedown")
            seen += told.text
        for name in ("Crosshair to the older candle", "The next longer timeframe", "The oldest candles"):
            assert name in seen
        await told.press("escape")
        await told.palette("oldest")
        assert "End shows the newest" in figures(told)


async def test_only_what_changed_repaints() -> None:
    async with story() as told:
        await told.press("2")
        now = eurusd()
        assert now.forming is not None
        assert now.last_price is not None
        tick = now.instrument.tick_size
        up = msgspec.structs.replace(now.forming, close=now.forming.close + tick)
        moved = msgspec.structs.replace(now, forming=up, last_price=now.last_price + tick)
        desk = busy_desk()
        told.client.current = msgspec.structs.replace(desk, sessions=(moved, *desk.sessions[1:]))
        told.app.pull()
        repainted = chart(told).repainted
        assert 0 < len(repainted) <= 6
        assert sum(region.area for region in repainted) <= 3 * chart(told).content_size.width
        told.app.pull()
        assert chart(told).repainted == []


async def test_old_prices_are_drawn_old_on_the_desk() -> None:
    desk = busy_desk()
    old = msgspec.structs.replace(desk.sessions[0], freshness=Freshness.STALE, last_tick=NOW - 47_000)
    async with story(msgspec.structs.replace(desk, sessions=(old, *desk.sessions[1:]))) as told:
        row = told.app.screen.query_one("#sessions", Table)._drawn[1]
        inks = {span.text.strip(): span.ink for span in row if span.text.strip()}
        assert inks["1.11963"] == "stale"
        assert next(ink for text, ink in inks.items() if "━" in text) == "stale"
        assert "47s stale" in figures(told)


async def test_why_each_session_makes_no_entry_is_on_the_smallest_desk() -> None:
    async with story(size=(80, 24)) as told:
        for words in ("an order is in doubt: entries wait for evidence", "adopted, waits for you",
                      "warming up: 31 of 50 candles", "open P&L"):  # fmt: skip
            assert words in told.text


async def test_a_desk_with_more_blocks_than_room_tells_the_selected_sessions() -> None:
    desk = busy_desk()
    many = tuple(
        msgspec.structs.replace(view, blocked=tuple(Block(word, None) for word in ("first", "second")))
        for view in desk.sessions
    )
    async with story(msgspec.structs.replace(desk, sessions=many), size=(80, 24)) as told:
        await told.press("down", "down", "down")
        blocks = [text_of(line) for line in told.app.screen.query_one("#blocks", Pane)._drawn]
        assert "nq-ema" in blocks[0]
        assert "5 more; select a session" in blocks[-1]


async def test_the_seam_and_the_gaps_are_on_the_smallest_market() -> None:
    async with story(size=(80, 24)) as told:
        await told.press("2")
        for words in ("seam overlap 2", "0 gaps open of 1 seen", "1 replaced", "130 candles"):
            assert words in told.text


async def test_a_start_shows_how_far_it_is() -> None:
    desk = busy_desk()
    view = msgspec.structs.replace(desk.sessions[0], phase=Phase.WARMING, warmed=20)
    loading = msgspec.structs.replace(
        view, phase=Phase.LOADING_HISTORY, phase_detail="from the feed", candles=(), forming=None, seam=None
    )
    async with story(msgspec.structs.replace(desk, sessions=(view, *desk.sessions[1:]))) as told:
        await told.press("2")
        assert "20 of 50 candles" in told.text
        assert "warming 20/50" in str(chart(told).border_title)
        await told.becomes(msgspec.structs.replace(desk, sessions=(loading, *desk.sessions[1:])))
        assert "step 5 of 7: loading history" in told.text
        assert "not joined yet: loading history" in told.text


@pytest.mark.parametrize("size", [(80, 24), (100, 34), (140, 40), (220, 50)])
async def test_the_desk_fits_at_every_size(size: tuple[int, int]) -> None:
    async with story(size=size) as told:
        table = told.app.screen.query_one("#sessions")
        assert table.content_size.height >= len(busy_desk().sessions) + 1
        assert chart(told).display == (size[1] >= 32)
        bottom = max(pane.region.bottom for pane in told.app.screen.query("#words Pane"))
        assert bottom <= told.app.screen.query_one("#alerts").region.y
