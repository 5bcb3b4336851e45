"""Where a PostgreSQL database is, read from a URL; its password is in no text that the value shows of itself."""

from __future__ import annotations

from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

from msgspec import Struct

SCHEMES = ("postgresql", "postgres")
SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
TLS_WORDS = ("sslmode", "sslrootcert", "sslcert", "sslkey")
HOW = "must be written postgresql://USER@HOST/DATABASE, with special characters as %XX"


class PostgresUrl(Struct, frozen=True, kw_only=True, tag="postgresql"):
    """One database of one server.

    An empty `host` is the local server (or PGHOST), a path the directory of its socket; an empty `user` is the
    operating system's (or PGUSER); an empty password is looked for in PGPASSWORD and ~/.pgpass. `tls` holds
    sslmode, sslrootcert, sslcert and sslkey, where they were given.
    """

    database: str
    host: str = ""
    port: int | None = None
    user: str = ""
    password: str = ""
    tls: tuple[tuple[str, str], ...] = ()

    @property
    def place(self) -> str:
        """Database and host, for sentences."""
        return f"{self.database} on {self.host or 'the local server'}"

    @property
    def shown(self) -> str:
        """The URL without its password; it reads back to the same place."""
        is_path = self.host.startswith("/")
        host = "" if is_path else f"[{self.host}]" if ":" in self.host else quote(self.host, safe="")
        where = f"{quote(self.user, safe='')}@{host}" if self.user else host
        if self.port is not None:
            where += f":{self.port}"
        words = (*((("host", self.host),) if is_path else ()), *self.tls)
        query = f"?{urlencode(words)}" if words else ""
        return f"postgresql://{where}/{quote(self.database, safe='')}{query}"

    def __repr__(self) -> str:
        return f"PostgresUrl({self.shown})"


def postgres_url(written: str) -> PostgresUrl:
    """The database behind a URL. Raises ValueError with words that never repeat the URL."""
    try:
        parts = urlsplit(written)
        port = parts.port
        asked = dict(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=True)) if parts.query else {}
    except ValueError:
        raise ValueError(HOW) from None
    database = unquote(parts.path.removeprefix("/"))
    host = asked.pop("host", "") or unquote(parts.hostname or "")
    if parts.scheme not in SCHEMES or parts.fragment or not database or "/" in parts.path.removeprefix("/"):
        raise ValueError(HOW)
    if "," in parts.netloc.rpartition("@")[2] or "," in host:
        raise ValueError("names several servers; name one")
    if unknown := asked.keys() - set(TLS_WORDS):
        raise ValueError(f"has {len(unknown)} parameter(s) that are not known; known are host, {', '.join(TLS_WORDS)}")
    if asked.get("sslmode", "prefer") not in SSL_MODES:
        raise ValueError(f"has an sslmode that is not known; known are {', '.join(SSL_MODES)}")
    user, password = unquote(parts.username or ""), unquote(parts.password or "")
    if not all(text.isprintable() for text in (database, host, user, password, *asked.values())):
        raise ValueError(HOW)
    return PostgresUrl(
        database=database,
        host=host,
        port=port,
        user=user,
        password=password,
        tls=tuple((word, asked[word]) for word in TLS_WORDS if word in asked),
    )
