"""The small scan that knows on which line a key stands."""

import tomllib
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from console.config_source import dotted, key_lines, quoted

TEXT = '''\
# a comment with [brackets] and = signs
top = 1

[a]           # x = 1
b = """
c = 2
[d]
"""
e = [
  1, # ] = "
  "]", 'x = [',
]
f.g = { h = 1, i = "}" }
"quoted key".'lit\\eral' = """quotes at the end""""
"caf\\u00e9" = 1

[c.d.e]
x = 1
[c.d]
y = 2
[[list]]
z = 1
'''


def test_each_kind_of_key_is_found_on_its_line() -> None:
    lines = key_lines(TEXT)
    assert lines == {
        ("top",): 2,
        ("a",): 4,
        ("a", "b"): 5,
        ("a", "e"): 9,
        ("a", "f"): 13,
        ("a", "f", "g"): 13,
        ("a", "quoted key"): 14,
        ("a", "quoted key", "lit\\eral"): 14,
        ("a", "café"): 15,
        ("c",): 17,
        ("c", "d"): 19,
        ("c", "d", "e"): 17,
        ("c", "d", "e", "x"): 18,
        ("c", "d", "y"): 20,
        ("list",): 21,
        ("list", "z"): 22,
    }


WORDS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
VALUES = st.one_of(
    WORDS.map(quoted),
    st.integers(-99, 99).map(str),
    st.lists(WORDS.map(quoted), max_size=3).map(lambda items: "[\n" + ",\n".join(items) + "]"),
    st.tuples(WORDS, WORDS).map(lambda pair: f"{{ {dotted((pair[0],))} = {quoted(pair[1])} }}"),
)
TABLES = st.dictionaries(WORDS, st.dictionaries(WORDS, VALUES, max_size=4), min_size=1, max_size=4)


@given(TABLES)
def test_every_key_that_toml_reads_has_the_line_it_was_written_on(tables: dict[str, dict[str, str]]) -> None:
    written: list[str] = []
    expected: dict[tuple[str, ...], int] = {}
    for table, keys in tables.items():
        written.append(f"[{dotted((table,))}]")
        expected[(table,)] = sum(part.count("\n") + 1 for part in written)
        for key, value in keys.items():
            expected[(table, key)] = sum(part.count("\n") + 1 for part in written) + 1
            written.append(f"{dotted((key,))} = {value}")
    text = "\n".join(written) + "\n"
    document: dict[str, Any] = tomllib.loads(text)
    assert {(table, key) for table in document for key in document[table]} <= set(expected)
    assert key_lines(text) == expected
