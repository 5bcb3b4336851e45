"""Strings that a broker, a strategy's author or another desk's orders may hand us to break a terminal with."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator

import msgspec

from engine.queries import Answer, OrderLife, Query
from engine.snapshot import DeskSnapshot
from screenshots.journal_story import Trail
from screenshots.ledger_story import disagreements, fills, orders, recent
from screenshots.market_story import btcusd, es, eurusd, nq

ESCAPES = (
    "\x1b[2J", "\x1b[H", "\x1b[31m", "\x1b[?1049l", "\x1b[?25l", "\x1b[6n", "\x1b[c", "\x1b[5i", "\x1bc", "\x1b(0",
    "\x1b]0;owned\x07", "\x1b]2;owned\x1b\\", "\x1b]8;;http://evil.example\x07x\x1b]8;;\x07",
    "\x1b]52;c;cm0gLXJmIC8=\x07", "\x1b]9;boo\x07", "\x1b]777;notify;a;b\x07", "\x1b]1337;File=:AA\x07",
    "\x1bP+q544e\x1b\\", "\x1bPtmux;\x1b\x1b]52;c;QQ==\x07\x1b\\", "\x1b_Ga=T;AAAA\x1b\\", "\x1b^private\x1b\\",
    "\x9b2J", "\x9d0;owned\x9c", "\x90q\x9c", "\x1b[1000000C", "\x1b[1;1r", "\x1b[?2004l", "\x1b[201~\x1b[200~",
    "\x1b[<0;1;1M", "\x1bO", "\x1b", "\x1b[", "\x1b]",
)  # fmt: skip
MARKUP = (
    "[red]", "[/]", "[/nope]", "[bold", "[@click=app.act('kill')]press me[/]", "[link=http://evil.example]x[/link]",
    "[$error on $surface]", "[]", "[[", "]]", r"\[b]", "{0}", "{x.__class__}", "%s%n", "$(reboot)", "`reboot`",
    "<b>", "&amp;", "=cmd|' /C calc'!A0", "+1+1", "-1+1", "@SUM(A1)", "'; DROP TABLE orders; --", "../../etc/passwd",
)  # fmt: skip
UNICODE = (
    "\u202e0001 YUB", "\u2066\u2067\u2068\u2069", "\u200b\u200c\u200d\u2060", "\ufeff", "\u00ad", "\u061c", "\u180e",
    "e" + "\u0301" * 40, "\u0e33" * 9, "Z" + "\u0338\u0489\u20dd" * 12, "日本語の長い銘柄名", "\uff21\uff22", "\u3000",
    "👨\u200d👩\u200d👧\u200d👦", "👍\U0001f3fd", "❤\ufe0f", "🇨🇭🇨", "\U000e0041\U000e0042", "\U000f0000", "\ue000",
    "\ud800", "\udfff", "\uffff", "\U0010ffff", "\u2028", "\u2029", "\u0085", "\xa0", "\u2003", "ﷺ", "𒐫", "꧅",
    "עברית", "العربية", "ᄀ" * 5 + "ᅡ" * 5, "ก็็็็็็็็", "\u0300", "ẞßﬀ", "²", "١٢٣", "½",
)  # fmt: skip
CONTROLS = tuple(map(chr, (*range(0x20), *range(0x7F, 0xA0))))
LENGTHS = ("", " ", " " * 300, "x" * 5_000, "word " * 800, "\n" * 50, "\t\t", "0" * 200, "日" * 500)
FORMS = ("{0}", "a{0}b", "{0}{0}", "order {0} refused", "{0}" * 7, " {0} ", "EUR{0}USD", "{0}\n{0}")


def corpus() -> list[str]:
    """At least 2,000 different strings, the same ones every time."""
    seeds = (*ESCAPES, *MARKUP, *UNICODE, *CONTROLS, *LENGTHS)
    whole = [form.replace("{0}", seed) for seed in seeds for form in FORMS]
    pairs = [one + other for one in ESCAPES for other in (*MARKUP, *UNICODE)]
    return list(dict.fromkeys((*whole, *pairs)))


def unfit(text: str) -> set[str]:
    """What of a text no frame may hold: control, format, surrogate and private characters, line separators."""
    return {c for c in text if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")}


class Poison:
    """Writes the corpus into every free text of a snapshot, one string after another."""

    def __init__(self, strings: list[str]) -> None:
        self._strings = strings
        self._named: dict[str, str] = {}
        self.at = 0

    @property
    def is_empty(self) -> bool:
        """Whether every string has been somewhere."""
        return self.at >= len(self._strings)

    def desk(self, snapshot: DeskSnapshot) -> DeskSnapshot:
        """The same desk under hostile names and words; what was one name stays one name."""
        self._named.clear()
        return msgspec.convert(self._within(msgspec.to_builtins(snapshot)), DeskSnapshot, strict=False)

    def answer(self, answer: Answer) -> Answer:
        """The same answer in hostile words; every question gets others."""
        self._named.clear()
        return msgspec.convert(self._within(msgspec.to_builtins(answer)), type(answer), strict=False)

    def _next(self) -> str:
        text = self._strings[self.at % len(self._strings)]
        self.at += 1
        return text

    def _within(self, value: object, key: str = "") -> object:
        if isinstance(value, dict):
            return {name: self._within(item, str(name)) for name, item in value.items()}
        if isinstance(value, list | tuple):
            return [self._within(item, key) for item in value]
        if isinstance(value, str) and value and key in FREE:
            if value not in self._named:
                # A number keeps names apart that the corpus would make equal.
                self._named[value] = f"{self._next()}{len(self._named)}"
            return self._named[value]
        return value


FREE = frozenset({
    "id", "account", "symbol", "strategy", "phase_detail", "blocks", "latches", "name", "reason", "decision", "cause",
    "broker", "broker_id", "client_id", "order", "session", "text", "title", "result", "lines", "kill_reason",
    "subject", "error", "refusals", "warnings", "plan",
    "link_reason", "done", "memory", "database", "note", "acknowledged_by", "persistence_detail", "group", "missing",
    "detail", "evidence", "last_evidence", "query", "reported_by", "cancel_reason",
    "short", "message", "reject_reason", "words", "faults", "key", "parent",
})  # fmt: skip
"""Fields that hold somebody's words; the others are numbers, times and words of our own enumerations."""


class HostileTrail(Trail):
    """An audit trail in which everybody wrote what they liked."""

    def __init__(self, poison: Poison) -> None:
        views = {str(view.id): view for view in (eurusd(), btcusd(), es(), nq())}
        super().__init__((*orders(views), *recent(views)), fills(views), disagreements())
        self.poison = poison

    def answer(self, query: Query) -> Answer:
        """A page, poisoned; the life of an order is always that of the first."""
        if isinstance(query, OrderLife):
            query = OrderLife(self.orders[0].client_id)
        return self.poison.answer(super().answer(query))


def chunks(strings: list[str], size: int) -> Iterator[list[str]]:
    """The corpus in handfuls."""
    yield from (strings[at : at + size] for at in range(0, len(strings), size))
