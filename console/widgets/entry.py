"""Fields whose keys take effect in the order in which they were pressed."""

from __future__ import annotations

from textual import events
from textual.widget import Widget
from textual.widgets import Input


async def in_order(field: Widget, event: events.Key) -> None:
    """Carry out a key of the field's own now, or hand it to the field that has the focus by now.

    Textual inserts letters at once but carries out other keys only after they have bubbled to the app. Typed quickly,
    1 Backspace 5 would read "1" where somebody meant "5", and the 5 of Tab 5 would go into the field before: a quantity
    is money. Here such keys, and those that move on, take effect where they are pressed; what was on its way when the
    focus moved follows it. Every other key goes its usual way.
    """
    focused = field.screen.focused
    bindings = field._bindings.key_to_bindings.get(event.key)
    if focused is not None and focused is not field:
        passed_on = events.Key(event.key, event.character)
        passed_on.time = event.time
        focused.post_message(passed_on)
    elif event.key == "tab":
        field.screen.focus_next()
    elif event.key == "shift+tab":
        field.screen.focus_previous()
    elif bindings:
        await field.run_action(bindings[0].action)
    else:
        return
    event.stop()
    event.prevent_default()


class Entry(Input):
    """A line to type into."""

    async def on_key(self, event: events.Key) -> None:
        """Take it where it is pressed."""
        await in_order(self, event)


class TypedWord(Entry):
    """A word that has to be typed: neither the terminal's paste nor the clipboard is taken."""

    def on_paste(self, event: events.Paste) -> None:
        """Nothing is taken from the terminal."""
        event.stop()
        event.prevent_default()

    def action_paste(self) -> None:
        """Nothing is taken from the clipboard."""
