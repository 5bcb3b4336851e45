"""New stops: what was accepted may be rejected a moment later, and the word of it be lost."""

from __future__ import annotations

from collections.abc import Iterable

from engine.domain.ids import ClientOrderId, Millis
from engine.domain.orders import Order

ASK_AFTER_MS = 2_000
PROVEN_AFTER_MS = 10_000


class Standing:
    """Since when the present stops cover; each is to be looked for at the broker once, and has then to outlive it."""

    def __init__(self) -> None:
        self.is_proven = False
        self._since: dict[ClientOrderId, Millis] = {}
        self._asked: set[ClientOrderId] = set()

    def look(self, stops: Iterable[Order], now: Millis) -> ClientOrderId | None:
        """Take note of the stops that cover now; a new one that the broker is to be asked for, None without one."""
        ids = [stop.client_id for stop in stops]
        self._since = {id: self._since.get(id, now) for id in ids}
        self._asked.intersection_update(ids)
        self.is_proven = all(now - since >= PROVEN_AFTER_MS for since in self._since.values())
        due = [id for id in ids if now - self._since[id] >= ASK_AFTER_MS and id not in self._asked]
        self._asked.update(due)
        return due[0] if due else None
