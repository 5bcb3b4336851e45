"""An export is whole or not there, for nobody else to read, never over another file, and nothing in it runs."""

from __future__ import annotations

import asyncio
import csv
import json
import stat
from pathlib import Path

import pytest

from console.export import ExportFailed, Progress, default_name, export, target
from console.journal import Kind, Wanted
from engine.queries import Answer, JournalAnswer, JournalLine, JournalPage, Query

FORMULAS = ("=1+1", "+1", "-1+2", "@SUM(A1)", "\t=1", " =1", "＝1", "=cmd|'/C calc'!A0")


def lines(count: int) -> list[JournalLine]:
    return [
        JournalLine(number=n, at=n * 1000, kind="order", session=None, subject=f"o-{n}", text=FORMULAS[n % 8])
        for n in range(count, 0, -1)
    ]


def there(folder: Path) -> list[Path]:
    return list(folder.iterdir())


class Trail:
    """Answers from so many lines; `stops` lets no answer come after so many pages."""

    def __init__(self, count: int, stops: int | None = None) -> None:
        self.lines, self.stops = lines(count), stops
        self.pages = 0
        self.waiting = asyncio.Event()

    async def ask(self, query: Query) -> Answer:
        assert isinstance(query, JournalPage)
        self.pages += 1
        if self.stops is not None and self.pages > self.stops:
            self.waiting.set()
            await asyncio.get_running_loop().create_future()
        fits = [each for each in self.lines if query.before is None or each.number < query.before]
        page = tuple(fits[: query.limit])
        more = len(fits) > query.limit
        return JournalAnswer(page, more, page[-1].number if more else None)


async def test_csv_and_json_hold_every_line_and_are_ours_alone(tmp_path: Path) -> None:
    for suffix in ("csv", "json"):
        path, heard = tmp_path / f"made/all.{suffix}", list[Progress]()
        done = await export(Trail(2500).ask, Wanted(), path, heard.append)
        assert (done.lines, done.back_to) == (2500, 1000)
        assert [progress.lines for progress in heard] == [1000, 2000, 2500]
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        text = path.read_text()
        rows = json.loads(text) if suffix == "json" else list(csv.DictReader(text.splitlines()))
        assert [int(row["number"]) for row in rows] == list(range(2500, 0, -1))


async def test_nothing_in_a_csv_runs_in_a_spreadsheet(tmp_path: Path) -> None:
    await export(Trail(8).ask, Wanted(), tmp_path / "a.csv", lambda progress: None)
    cells = [row["text"] for row in csv.DictReader((tmp_path / "a.csv").open(newline=""))]
    assert len(cells) == 8
    assert all(cell.startswith("'") for cell in cells)


async def test_an_empty_export_is_still_a_file(tmp_path: Path) -> None:
    await export(Trail(0).ask, Wanted(), tmp_path / "a.json", lambda progress: None)
    assert json.loads((tmp_path / "a.json").read_text()) == []


async def test_given_up_half_way_nothing_stays(tmp_path: Path) -> None:
    trail = Trail(5000, stops=2)
    work = asyncio.create_task(export(trail.ask, Wanted(), tmp_path / "a.csv", lambda progress: None))
    await trail.waiting.wait()
    assert (tmp_path / "a.csv").exists()
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work
    assert there(tmp_path) == []


async def test_no_file_is_written_over(tmp_path: Path) -> None:
    there, link = tmp_path / "a.csv", tmp_path / "link.csv"
    there.write_text("mine")
    link.symlink_to(tmp_path / "elsewhere.csv")
    for path in (there, link):
        with pytest.raises(ExportFailed, match="exists already"):
            await export(Trail(1).ask, Wanted(), path, lambda progress: None)
        with pytest.raises(ExportFailed, match="exists already"):
            target(path.name, tmp_path)
    assert there.read_text() == "mine"
    assert not (tmp_path / "elsewhere.csv").exists()


@pytest.mark.parametrize("written", ["", "  ", "a.txt", "a", "a\x1b.csv"])
def test_a_name_that_says_nothing_is_refused(written: str, tmp_path: Path) -> None:
    with pytest.raises(ExportFailed, match=r"must end in|name that ends in"):
        target(written, tmp_path)


async def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ExportFailed, match="cannot be written"):
        await export(Trail(1).ask, Wanted(), tmp_path / "file" / "a.csv", lambda progress: None)


def test_the_default_name_tells_what_and_when() -> None:
    assert default_name(Wanted(Kind.FILLS), 1_577_973_127_000, "csv") == "journal-fills-20200102T135207Z.csv"
