"""Write one SVG per screen beside this file, from fixed snapshots: a second run changes nothing.

Run from anywhere: `python screenshots/take.py`, or `make screenshots`.
"""

from __future__ import annotations

import asyncio
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
os.environ["TEXTUAL_ANIMATIONS"] = "none"
for wish in ("NO_COLOR", "SSH_CONNECTION", "TEXTUAL_THEME"):
    os.environ.pop(wish, None)

from console.app import SextantApp  # noqa: E402 - textual reads its environment when it is imported
from engine.snapshot import DeskSnapshot  # noqa: E402
from screenshots.crisp import crisp  # noqa: E402
from screenshots.story import StillClient, blocked_desk, busy_desk, incomplete_desk  # noqa: E402
from screenshots.tape_story import tape_desk  # noqa: E402

Shot = tuple[str, Callable[[], DeskSnapshot], tuple[int, int], tuple[str, ...]]
SHOTS: tuple[Shot, ...] = (
    ("desk", busy_desk, (140, 40), ("1",)),
    ("market", tape_desk, (140, 40), ("2", *["left"] * 15)),
    ("orders", busy_desk, (140, 40), ("3",)),
    ("reconciliation", busy_desk, (140, 40), ("4",)),
    ("heat", blocked_desk, (140, 40), ("5",)),
    ("journal", busy_desk, (140, 40), ("6",)),
    ("ticket", busy_desk, (100, 34), ("o", "tab", "1")),
    ("incomplete", incomplete_desk, (100, 30), ("5",)),
    ("blocked-80x24", blocked_desk, (80, 24), ("1",)),
    ("flatten", busy_desk, (100, 30), ("f",)),
    ("quit", busy_desk, (100, 30), ("q",)),
    ("light", tape_desk, (140, 40), ("t", "t", "2", "plus")),
)


async def take(shot: Shot) -> bool:
    """Draw one picture; returns whether its file changed."""
    name, desk, size, keys = shot
    app = SextantApp(
        StillClient(desk()), operator="operator", place="desk", monotonic=lambda: 100.0, ids=lambda: "id-1"
    )
    async with app.run_test(size=size) as pilot:
        await app.workers.wait_for_complete()
        await pilot.pause()
        for key in keys:
            await pilot.press(key)
            await pilot.pause()
        for field in app.screen.query("Input"):
            field.cursor_blink = False  # type: ignore[attr-defined]
        app.clear_notifications()
        await pilot.pause(0.2)
        picture = app.export_screenshot(title="Sextant")
    # Rich names its classes after a checksum of the content and a counter; one fixed name keeps the diff small.
    picture = re.sub(r"terminal-\d+", f"sextant-{name}", picture)
    # A picture fetches nothing: the reader's own Fira Code, or their monospaced font.
    picture = re.sub(r',\s*url\("https:[^"]*"\) format\("\w+"\)', "", picture)
    picture = crisp(picture)
    path = HERE / f"{name}.svg"
    if path.exists() and path.read_text("utf-8") == picture:
        return False
    path.write_text(picture, "utf-8")
    return True


async def main() -> None:
    """Every picture, one after another."""
    for shot in SHOTS:
        print(f"{shot[0]}.svg {'written' if await take(shot) else 'unchanged'}")


if __name__ == "__main__":
    asyncio.run(main())
