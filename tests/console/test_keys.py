"""An operator's own keys: what is refused, in one sentence, and that bindings, footer, palette and help follow."""

from __future__ import annotations

from pathlib import Path

import pytest

from console import config
from console.actions import ACTIONS, KeyMap, checked_keys
from console.actions.keys import TAKEN, key_named, shown
from console.app import SextantApp
from console.config_text import describe
from console.journal import Book, Wanted
from console.screens.journal import Filter
from console.screens.modals.help import help_lines
from console.screens.modals.palette import DeskCommands
from console.widgets.ledger import empty
from console.widgets.spans import text_of
from engine.errors import ConfigurationError
from tests.console.factory import StillClient, blocked_desk
from tests.console.stories import Story, Watch
from tests.unit.console.test_notify import DESK

AT = DESK.count("\n") + 1


def keys_of(text: str) -> dict[str, str]:
    return config.parse(f"{DESK}[keys]\n{text}", "desk.toml", Path("/"), {}).keys


def test_every_key_of_the_table_reads_back_as_it_is_shown() -> None:
    for action in ACTIONS:
        for key in action.key.split(","):
            if len(shown(key)) == 1 and key not in TAKEN:
                assert key_named(shown(key)) == key


def test_keys_are_read_and_may_change_places() -> None:
    assert keys_of('flatten = "f8"\npause = "u"\nresume = "p"\n') == {"flatten": "f8", "pause": "u", "resume": "p"}
    assert keys_of('kill = "ctrl+k"\nhelp = "%"\n') == {"kill": "ctrl+k", "help": "percent_sign"}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ('flaten = "f8"', "1: keys.flaten is not a setting; did you mean flatten?"),
        ('flatten = "ctrl+s"', '1: keys.flatten cannot be "ctrl+s": that key stops the terminal\'s output'),
        ('flatten = "Ctrl+Q"', '1: keys.flatten cannot be "Ctrl+Q"'),
        ('flatten = "ctrl+z"', '1: keys.flatten cannot be "ctrl+z"'),
        ('flatten = "ctrl+b"', '1: keys.flatten cannot be "ctrl+b": that key belongs to tmux'),
        ('flatten = "j"', '1: keys.flatten cannot be "j": that key moves about'),
        ('flatten = "enter"', '1: keys.flatten cannot be "enter": that key moves about'),
        ('flatten = "3"', '1: keys.flatten cannot be "3": that key is Orders on desk (go_orders)'),
        ('flatten = "p"', '1: keys.flatten cannot be "p": that key is Pause on desk (pause)'),
        ('theme = "f9"\nflatten = "f9"', '2: keys.flatten cannot be "f9": that key is Theme'),
        ('flatten = "hyper+x"', '1: keys.flatten must be one character, or a key such as "f8" or "ctrl+k"'),
        ('flatten = "é"', "1: keys.flatten must be one character"),
        ("flatten = 8", "1: keys.flatten must be text in quotes, not 8"),
    ],
)
def test_what_cannot_be_is_one_sentence_with_file_line_and_key(text: str, sentence: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        keys_of(text)
    line, _, rest = sentence.partition(":")
    place = AT + int(line)
    if "is Theme" in sentence:  # either of the two may be named
        assert 'cannot be "f9"' in str(refused.value)
    else:
        assert str(refused.value).startswith(f"desk.toml:{place}:{rest}")


def test_one_key_may_mean_two_things_on_screens_that_never_meet() -> None:
    assert checked_keys({"adopt": "e"}) == {"adopt": "e"}


def test_what_doctor_prints_loads_to_the_same_keys() -> None:
    made = config.parse(f'{DESK}[keys]\nkill = "ctrl+k"\nhelp = "%"\n', "desk.toml", Path("/"), {})
    assert config.parse("\n".join(describe(made)), "again", Path("/"), {}).keys == made.keys


def test_help_tells_the_new_key() -> None:
    text = "\n".join(text_of(line) for line in help_lines(100, KeyMap({"flatten": "f8"})))
    assert "f8  Flatten " in text
    assert " f  Flatten " not in text


async def test_bindings_footer_banner_and_palette_follow() -> None:
    changed = checked_keys({"flatten": "f8", "pause": "u", "resume": "p", "palette": "f2", "acknowledge_alert": "%"})
    app = SextantApp(StillClient(blocked_desk()), operator="operator", place="desk", monotonic=Watch(), keys=changed)
    async with app.run_test(size=(140, 40)) as pilot:
        told = Story(app, app.client, pilot)  # type: ignore[arg-type]
        await told.settle()
        assert "f8 Flatten" in told.text
        assert "% acknowledge" in told.text
        await told.press("f")
        assert told.dialog == ""
        await told.press("f8")
        assert told.dialog.startswith("Flatten")
        await told.press("escape", "u")
        assert told.dialog.startswith("Pause")
        await told.press("escape", "2", "f8")
        assert told.dialog.startswith("Flatten")
        await told.press("escape", "ctrl+p")
        assert app.screen.id != "--command-palette"
        await told.pilot.press("f2")
        await pilot.pause()
        assert app.screen.id == "--command-palette"
        offered = [hit.text async for hit in DeskCommands(app.screen).discover()]
        assert "session: flatten  [f8]" in offered


async def test_the_hints_of_the_journal_follow() -> None:
    changed = checked_keys({"filter_journal": "f3", "next_kind": "f4", "previous_kind": "f5", "clear_filter": "f6"})
    app = SextantApp(StillClient(blocked_desk()), operator="operator", place="desk", monotonic=Watch(), keys=changed)
    async with app.run_test(size=(140, 40)) as pilot:
        told = Story(app, app.client, pilot)  # type: ignore[arg-type]
        await told.press("6")
        assert app.screen.query_one(Filter).placeholder == "f3 filters: words that must all occur"
    book = Book(Wanted(text="nowhere"))
    book.begun = True
    assert (
        empty(book, failure="", searching=False, keys=app.keys)[1] == "f6 clears the filter, f5 and f4 change the kind."
    )
