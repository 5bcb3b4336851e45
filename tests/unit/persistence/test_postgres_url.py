"""URLs of PostgreSQL: read whole, shown without their password, refused without being repeated."""

from __future__ import annotations

import pytest

from engine.domain.postgres_url import PostgresUrl, postgres_url


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("postgresql://ann@host/desk", PostgresUrl(database="desk", host="host", user="ann")),
        ("postgres://ann:p%40ss@host:6543/desk", PostgresUrl(
            database="desk", host="host", port=6543, user="ann", password="p@ss")),
        ("postgresql:///desk", PostgresUrl(database="desk")),
        ("postgresql://ann@/desk?host=/run/pg", PostgresUrl(database="desk", host="/run/pg", user="ann")),
        ("postgresql://%2Frun%2Fpg/desk", PostgresUrl(database="desk", host="/run/pg")),
        ("postgresql://[::1]:5432/d%20b", PostgresUrl(database="d b", host="::1", port=5432)),
        ("postgresql://h/d?sslmode=verify-full&sslrootcert=/ca.pem", PostgresUrl(
            database="d", host="h", tls=(("sslmode", "verify-full"), ("sslrootcert", "/ca.pem")))),
    ],
)  # fmt: skip
def test_a_url_is_read_and_shown_without_its_password(written: str, expected: PostgresUrl) -> None:
    url = postgres_url(written)
    assert url == expected
    assert not url.password or url.password not in f"{url!r} {url} {url.shown} {url.place}"
    shown = postgres_url(url.shown)
    assert (shown.place, shown.port, shown.user, shown.tls) == (url.place, url.port, url.user, url.tls)


@pytest.mark.parametrize(
    ("written", "words"),
    [
        ("postgresql://me:hush@host", "must be written postgresql://USER@HOST/DATABASE"),
        ("postgresql://me:hush@host/a/b", "must be written"),
        ("postgresql://me:hush#more@host/desk", "must be written"),
        ("postgresql://me:hush@host:port/desk", "must be written"),
        ("postgresql://me:hush@host/desk%0a", "must be written"),
        ("postgresql+asyncpg://me:hush@host/desk", "must be written"),
        ("postgresql://me:hush@one,two/desk", "names several servers"),
        ("postgresql://me:hush@host/desk?sslmode=hush", "sslmode that is not known; known are disable"),
        ("postgresql://me@host/desk?password=hush", "1 parameter(s) that are not known"),
    ],
)
def test_what_cannot_be_is_refused_without_repeating_it(written: str, words: str) -> None:
    with pytest.raises(ValueError, match=words.replace("(", r"\(").replace(")", r"\)")) as refused:
        postgres_url(written)
    assert "hush" not in str(refused.value)
