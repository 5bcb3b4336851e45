"""Fixed columns that leave by rank, a cursor that belongs to a row, and repaints of what changed only."""

from dataclasses import replace

from textual.app import App, ComposeResult
from textual.screen import Screen

from console.widgets.columns import Align, Column, Row, arrange, header_line, row_lines
from console.widgets.spans import changed, fit, hatched, line, text_of, width_of, wrap
from console.widgets.table import Table
from tests.console.stories import Inked

COLUMNS = (
    Column("Name", 6),
    Column("Price", 10, Align.POINT),
    Column("Note", 6, rank=2, grows=True),
    Column("Id", 4, rank=1),
)


def rows(*prices: str) -> list[Row]:
    return [Row(f"r{n}", (line(f"row{n}"), line(price), line("note"), line(str(n)))) for n, price in enumerate(prices)]


def test_narrow_terminals_lose_the_least_important_columns() -> None:
    assert [index for index, _ in arrange(COLUMNS, 60)] == [0, 1, 2, 3]
    assert [index for index, _ in arrange(COLUMNS, 27)] == [0, 1, 3]
    assert [index for index, _ in arrange(COLUMNS, 20)] == [0, 1]


def test_lines_are_as_wide_as_the_table_and_points_stand_in_one_column() -> None:
    arranged = arrange(COLUMNS, 60)
    drawn = [header_line(COLUMNS, arranged), *row_lines(COLUMNS, arranged, rows("1.09210", "7180.0", "–"))]
    assert {width_of(one) for one in drawn} == {60}
    assert text_of(drawn[1]).index(".") == text_of(drawn[2]).index(".")


def test_a_change_names_the_cells_it_touches() -> None:
    old, new = fit(line("abc", ("12", "dim"), "def"), 12), fit(line("abc", ("13", "dim"), "def"), 12)
    assert changed(old, old, 12) is None
    assert changed(old, new, 12) == (4, 5)


def test_text_is_cut_wrapped_and_hatched_to_size() -> None:
    assert text_of(fit(line("abcdef"), 4)) == "abc…"
    assert [text_of(row) for row in wrap("one two three", 8)] == ["one two", "three"]
    assert {width_of(row) for row in hatched(30, 7, ("Nothing here.", "Do this."))} == {30}


class Bare(App[None]):
    CSS_PATH = None
    CSS = "Screen > .lines--text { color: white; }"

    def get_default_screen(self) -> Screen[None]:
        return Inked(id="_default")

    def compose(self) -> ComposeResult:
        yield Table(COLUMNS, id="table")


async def test_only_changed_cells_repaint_and_the_cursor_keeps_its_row() -> None:
    app = Bare()
    async with app.run_test(size=(60, 10)) as pilot:
        table = app.query_one(Table)
        table.focus()
        table.fill(rows("1.10", "2.20", "3.30"))
        await pilot.press("down")
        assert table.cursor == "r1"
        table.fill(rows("1.10", "2.20", "3.30"))
        assert table.repainted == []
        table.fill(rows("1.10", "2.20", "3.31"))
        assert [(region.y, region.width) for region in table.repainted] == [(3, 1)]
        moved = rows("1.10", "2.20", "3.31")
        table.fill([moved[1], moved[0], replace(moved[2], key="r9")])
        assert table.cursor == "r1"
        table.fill([moved[0]])
        assert table.cursor == "r0"
        table.fill([])
        assert table.cursor is None


async def test_long_tables_follow_the_cursor_and_take_the_mouse() -> None:
    app = Bare()
    async with app.run_test(size=(60, 6)) as pilot:
        table = app.query_one(Table)
        table.focus()
        table.fill(rows(*(f"{n}.00" for n in range(50))))
        await pilot.press("end")
        assert table.cursor == "r49"
        await pilot.click(Table, offset=(3, 1))
        assert table.cursor == "r45"
        await pilot.press("home", "pagedown")
        assert table.cursor == "r10"
