"""A line to type into whose keys take effect in the order in which they were pressed."""

from __future__ import annotations

from textual import events
from textual.widgets import Input


class Entry(Input):
    """Textual inserts letters at once but carries out editing keys only after they have bubbled to the app.

    Typed quickly, 1 Backspace 5 would read "1" where somebody meant "5", and a quantity is money. Here the
    editing keys of the input take effect where they are pressed; every other key goes its usual way.
    """

    async def on_key(self, event: events.Key) -> None:
        """Carry out an editing key now."""
        if event.is_printable:
            return
        bindings = self._bindings.key_to_bindings.get(event.key)
        if bindings:
            event.stop()
            event.prevent_default()
            await self.run_action(bindings[0].action)


class TypedWord(Entry):
    """A word that has to be typed: neither the terminal's paste nor the clipboard is taken."""

    def on_paste(self, event: events.Paste) -> None:
        """Nothing is taken from the terminal."""
        event.stop()
        event.prevent_default()

    def action_paste(self) -> None:
        """Nothing is taken from the clipboard."""
