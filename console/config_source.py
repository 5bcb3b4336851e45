"""A configuration file as text: reading it, and knowing on which line each key stands.

tomllib tells what a file says but not where; errors must name the line, so a second, small scan over the same
text finds it. It only runs on text that tomllib has accepted, which is why it may be so simple.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Callable, Iterable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any, Final, TypeAlias, TypeVar

from msgspec import Struct

from console.formatting import plain
from engine.errors import ConfigurationError

T = TypeVar("T")
KeyPath: TypeAlias = tuple[str, ...]
"""A key with the tables it stands in: ("sessions", "es", "limits")."""
Reader: TypeAlias = Callable[[Any], T]
"""Turns what TOML gave into a value; raises ValueError with what must be ("must be above 0, not -1")."""

LONGEST_FILE = 1_000_000
_PLACE = re.compile(r"^(.*?) \(at (?:line (\d+), column (\d+)|end of document)\)$", re.DOTALL)
_KEY = re.compile(r"""[ \t]*(?:"((?:[^"\\\n]|\\.)*)"|'([^'\n]*)'|([A-Za-z0-9_-]+))[ \t]*""")


class Required:
    """Stands for "there is no default"."""


REQUIRED: Final = Required()


class Source(Struct, frozen=True):
    """Where settings were read: the file's name as given, and the line of every key."""

    name: str
    lines: dict[KeyPath, int]

    def line(self, path: KeyPath) -> int:
        """The line of a key, or of the nearest table around it."""
        for length in range(len(path), 0, -1):
            if (line := self.lines.get(path[:length])) is not None:
                return line
        return 1

    def refuse(self, path: KeyPath, what: str) -> ConfigurationError:
        """One sentence about one key, ready to raise."""
        return ConfigurationError(plain(f"{self.name}:{self.line(path)}: {dotted(path)} {what}"))


class Section:
    """One table of the file: hands out its keys one by one, each checked."""

    def __init__(self, source: Source, path: KeyPath, raw: dict[str, Any], known: tuple[str, ...]) -> None:
        self.source, self.path, self._raw = source, path, raw
        for key in raw:
            if key not in known:
                raise source.refuse((*path, key), f"is not a setting; {suggest(key, known)}")

    def __contains__(self, key: str) -> bool:
        return key in self._raw

    def take(self, key: str, read: Reader[T], default: T | Required = REQUIRED, *, need: str = "") -> T:
        """The value of `key`, or its default. Raises ConfigurationError naming file, line and key;
        `need` says what to write when a required key is missing."""
        if key not in self._raw:
            if isinstance(default, Required):
                raise self.refuse(key, f"is missing; write {need}" if need else "is missing; it has no default")
            return default
        try:
            return read(self._raw[key])
        except ValueError as error:
            raise self.refuse(key, str(error)) from None

    def refuse(self, key: str, what: str) -> ConfigurationError:
        """One sentence about a key of this table."""
        return self.source.refuse((*self.path, key), what)

    def section(self, key: str, known: tuple[str, ...]) -> Section:
        """The table under `key`, empty when it is not there."""
        return Section(self.source, (*self.path, key), self.table(key), known)

    def table(self, key: str) -> dict[str, Any]:
        """The table under `key` as it is, empty when it is not there."""
        raw = self._raw.get(key, {})
        if not isinstance(raw, dict):
            raise self.refuse(key, f"must be a table, not {kind(raw)}; write [{dotted((*self.path, key))}]")
        return raw

    def named(self, key: str, known: tuple[str, ...], read_name: Reader[str]) -> Iterator[tuple[str, Section]]:
        """The tables under `key` by name, in the file's order: [sessions.a], [sessions.b]."""
        group = self.table(key)
        inner = Section(self.source, (*self.path, key), group, tuple(group))
        for name in group:
            try:
                read_name(name)
            except ValueError as error:
                raise inner.refuse(name, f"cannot be a name: it {error}") from None
            yield name, inner.section(name, known)


def read_file(file: Path) -> tuple[Source, dict[str, Any]]:
    """Read a TOML file, numbers with a point as Decimal. Raises ConfigurationError with one sentence."""
    try:
        if file.is_dir():
            raise ConfigurationError(plain(f"{file} is a directory; give --config the sextant.toml inside it"))
        with file.open("rb") as stream:
            data = stream.read(LONGEST_FILE + 1)
    except FileNotFoundError:
        raise ConfigurationError(
            plain(f"{file} does not exist; correct --config, or leave it out for the embedded paper desk")
        ) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigurationError(plain(f"{file} cannot be read ({reason}); make it a file that you may read")) from None
    if len(data) > LONGEST_FILE:
        raise ConfigurationError(plain(f"{file} is longer than {LONGEST_FILE} bytes; that is no configuration"))
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigurationError(plain(f"{file}:{line}: this is not UTF-8 text; save the file as UTF-8")) from None
    return read_text(text, str(file))


def read_text(text: str, name: str) -> tuple[Source, dict[str, Any]]:
    """Parse TOML text; `name` stands for the file in messages. Raises ConfigurationError."""
    text = text.replace("\r\n", "\n")
    try:
        document = tomllib.loads(text, parse_float=Decimal)
    except tomllib.TOMLDecodeError as error:
        found = _PLACE.match(str(error))
        line = int(found[2]) if found and found[2] else text.count("\n") + 1
        reason = found[1] if found else str(error)
        raise ConfigurationError(plain(f"{name}:{line}: this is not TOML ({reason}); correct that line")) from None
    except (ValueError, ArithmeticError, RecursionError) as error:
        # tomllib lets these through: a number of thousands of digits, tables nested a thousand deep.
        raise ConfigurationError(
            plain(f"{name}:1: this cannot be read as TOML ({type(error).__name__}); simplify the file")
        ) from None
    return Source(name, key_lines(text)), document


def key_lines(text: str) -> dict[KeyPath, int]:
    """The line on which each table and key first stands. Keys inside an inline table have their outer key's line."""
    lines: dict[KeyPath, int] = {}
    headed: set[KeyPath] = set()
    table: KeyPath = ()
    at, line = 0, 1

    def note(path: KeyPath) -> None:
        for length in range(1, len(path) + 1):
            lines.setdefault(path[:length], line)

    while at < len(text):
        if text[at] == "\n":
            at, line = at + 1, line + 1
        elif text[at] in " \t":
            at += 1
        elif text[at] == "#":
            at = _end_of_line(text, at)
        elif text[at] == "[":
            table, at = _key_path(text, at + (2 if text.startswith("[[", at) else 1))
            if table not in headed:  # its own header is a better place to point at than a child's
                headed.add(table)
                lines[table] = line
            note(table)
            at = _end_of_line(text, at)
        else:
            key, at = _key_path(text, at)
            note((*table, *key))
            end = _end_of_value(text, at)
            line += text.count("\n", at, end)
            at = max(end, at + 1)
    return lines


def _key_path(text: str, at: int) -> tuple[KeyPath, int]:
    parts: list[str] = []
    while found := _KEY.match(text, at):
        escaped, literal, bare = found.groups()
        if escaped is not None:  # tomllib itself undoes the escapes, so that both spell the key the same
            parts.append(next(iter(tomllib.loads(f'"{escaped}" = 0'))))
        else:
            parts.append(literal if literal is not None else bare)
        at = found.end()
        if not text.startswith(".", at):
            break
        at += 1
    return tuple(parts), at


def _end_of_line(text: str, at: int) -> int:
    end = text.find("\n", at)
    return len(text) if end < 0 else end


def _end_of_value(text: str, at: int) -> int:
    """The line end that ends a value: outside brackets, strings and comments."""
    depth = 0
    while at < len(text):
        character = text[at]
        if character in "\"'":
            at = _end_of_string(text, at)
            continue
        if character == "#":
            at = _end_of_line(text, at)
            continue
        if character == "\n" and depth <= 0:
            return at
        depth += (character in "[{") - (character in "]}")
        at += 1
    return at


def _end_of_string(text: str, at: int) -> int:
    quote = text[at]
    mark = quote * 3 if text.startswith(quote * 3, at) else quote
    at += len(mark)
    while at < len(text):
        if quote == '"' and text[at] == "\\":
            at += 2
        elif text.startswith(mark, at):
            at += len(mark)
            # Up to two quotes may stand right before the closing three.
            while len(mark) == 3 and text.startswith(quote, at):
                at += 1
            return at
        else:
            at += 1
    return at


def dotted(path: Iterable[str]) -> str:
    """A key as TOML writes it: quoted where it must be."""
    return ".".join(part if re.fullmatch(r"[A-Za-z0-9_-]+", part) else quoted(part) for part in path)


def quoted(text: str) -> str:
    """A TOML basic string; what does not print is escaped."""
    return '"' + "".join(_escaped(character) for character in text) + '"'


def _escaped(character: str) -> str:
    if character in '"\\':
        return "\\" + character
    if character.isprintable():
        return character
    return f"\\u{ord(character):04x}" if ord(character) < 0x10000 else f"\\U{ord(character):08x}"


def suggest(word: str, known: Iterable[str]) -> str:
    """The way out of an unknown word: the closest known one, else all of them."""
    words = sorted(known)
    close = difflib.get_close_matches(word.casefold().replace("-", "_"), words, n=1, cutoff=0.6)
    close = close or difflib.get_close_matches(word, words, n=1, cutoff=0.6)
    if close:
        return f"did you mean {close[0]}?"
    return f"use one of: {', '.join(words)}" if words else "there is none to choose from"


def kind(value: Any) -> str:
    """What TOML calls this value."""
    match value:
        case bool():
            return "true or false"
        case str():
            return "text"
        case int() | Decimal():
            return "a number"
        case list():
            return "a list"
        case dict():
            return "a table"
        case _:
            return "a date or time"
