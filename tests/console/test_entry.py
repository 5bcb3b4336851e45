"""What is typed is what stands there, however fast, and a word that must be typed is never pasted."""

from __future__ import annotations

from textual import events
from textual.app import App, ComposeResult
from textual.screen import Screen

from console.screens.modals.command import Choice
from console.screens.modals.spec import Field, FieldKind
from console.widgets.entry import Entry, TypedWord
from tests.console.stories import Inked

KEYS = {"\t": "tab", "<": "shift+tab", ">": "right", "-": "minus", "\x7f": "backspace", "\x01": "home", "\x05": "end"}


class OneLine(App[None]):
    """An input and nothing else."""

    def __init__(self, entry: Entry) -> None:
        super().__init__()
        self.entry = entry

    def compose(self) -> ComposeResult:
        """The input."""
        yield self.entry


def press_at_once(app: App[None], letters: str) -> None:
    """Every key is in the queue before the first is handled, as a slow line or a busy machine delivers them."""
    for letter in letters:
        app.post_message(events.Key(KEYS.get(letter, letter), letter))


async def test_editing_keys_take_effect_in_the_order_pressed() -> None:
    for letters, meant in (("1\x7f5", "5"), ("10\x7f\x7f-3", "-3"), ("23\x011\x054", "1234"), ("12\x7f\x7f\x7f7", "7")):
        app = OneLine(Entry())
        async with app.run_test() as pilot:
            press_at_once(app, letters)
            await pilot.pause()
            assert app.entry.value == meant


async def test_a_word_to_be_typed_takes_nothing_from_a_clipboard() -> None:
    app = OneLine(TypedWord())
    async with app.run_test() as pilot:
        app.copy_to_clipboard("RELEASE")
        await pilot.press("ctrl+v")
        app.entry.post_message(events.Paste("RELEASE"))
        await pilot.pause()
        assert app.entry.value == ""
        await pilot.press("R", "E")
        assert app.entry.value == "RE"


class Fields(App[None]):
    """Two inputs and a choice between them."""

    def get_default_screen(self) -> Screen[None]:
        """With inks."""
        return Inked(id="_default")

    def compose(self) -> ComposeResult:
        """One under the other."""
        options = (("buy", "buy"), ("sell", "sell"), ("exit", "exit"))
        yield Entry(id="first")
        yield Choice(Field("side", "side", FieldKind.CHOICE, options=options, default="buy"))
        yield Entry(id="last")


async def test_a_key_goes_to_the_field_that_has_the_focus_when_its_turn_comes() -> None:
    for letters, meant in (
        ("1\t>\t25", ("1", "sell", "25")),
        ("12\x7f\t>>\t9\x7f8", ("1", "exit", "8")),
        ("\t\t7<><4", ("4", "sell", "7")),
    ):
        app = Fields()
        async with app.run_test() as pilot:
            app.query_one("#first").focus()
            await pilot.pause()
            press_at_once(app, letters)
            for _ in range(5):
                await pilot.pause()
            assert (app.query_one("#first", Entry).value, app.query_one(Choice).value,
                    app.query_one("#last", Entry).value) == meant  # fmt: skip
