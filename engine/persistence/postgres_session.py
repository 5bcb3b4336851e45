"""One session with a PostgreSQL server: how it is opened, what it is set to, and what its errors mean."""

from __future__ import annotations

import asyncio
import os
import re
import socket
import ssl
from collections.abc import Mapping, Sequence
from functools import cache
from ipaddress import ip_address
from typing import Any, TypeAlias
from urllib.parse import urlencode

import asyncpg

from engine.domain.postgres_url import PostgresUrl
from engine.errors import DeskUnusable, DuplicateKey, StoreError, StoreUnavailable
from engine.persistence.connection import RowRefused

# asyncpg carries no types; what crosses it is checked by the contract tests.
Raw: TypeAlias = Any

CONNECT_SECONDS = 2.0
# The server gives up first, so that a slow statement is rolled back for certain; then we do, on a silent server.
SERVER_SECONDS = 3.0
ANSWER_SECONDS = 4.0
READER_SECONDS = 10.0
LOCK_SECONDS = 2.0
STATEMENTS_KEPT = 256
SCHEMA = "sextant"

UNIQUE_VIOLATION = "23505"
# Classes of SQLSTATE that speak of the row: its values, its constraints, its size.
ROW_CLASSES = ("22", "23", "54")
# Classes that speak of the server: connection, who is in charge, rolled back, read-only, resources, shutdown, its disk.
MACHINE_CLASSES = ("08", "25", "40", "53", "55", "57", "58")
MACHINE_STATES = frozenset({"XX001", "XX002"})  # a page or an index is broken
STATEMENT_TIMEOUT = "57014"
READ_ONLY = "25006"
_MARK = re.compile(r"'[^']*'|\?")


def client_name() -> str:
    """How the server, and a second desk that is refused, name this process."""
    return f"sextant process {os.getpid()} on {socket.gethostname()}"[:63]


def is_this_machine(host: str) -> bool:
    """Whether a host's name can only mean this machine: nothing, a socket's directory, a loopback address."""
    if not host or host.startswith(("/", "@")) or host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def encryption(url: PostgresUrl, environment: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """The URL's TLS words, with what a connection that leaves this machine needs.

    Over a network TLS is required unless the URL says `sslmode=disable` in so many words; `allow` and `prefer` would
    leave it to whoever stands between whether password and rows are readable. Raises DeskUnusable for those two.
    """
    words = dict(url.tls)
    mode = words.get("sslmode") or environment.get("PGSSLMODE", "")
    if is_this_machine(url.host or environment.get("PGHOST", "")):
        return url.tls
    if mode in ("allow", "prefer"):
        raise DeskUnusable(
            f"The database {url.place} is on a network, where sslmode={mode} may end up unencrypted; use verify-full "
            "(or require), or disable if everybody on the way may read along."
        )
    return url.tls if mode else (("sslmode", "require"), *url.tls)


async def connect(url: PostgresUrl, *, read_only: bool, reader_seconds: float = READER_SECONDS) -> Raw:
    """A session set to what the audit trail needs. Raises whatever asyncpg raises; see `why_unreachable`."""
    patience = reader_seconds if read_only else SERVER_SECONDS
    settings = {
        "application_name": client_name(),
        # names mean our schema and nothing that somebody else put in the way
        "search_path": f"{SCHEMA}, pg_temp",
        "default_transaction_read_only": "on" if read_only else "off",
        "default_transaction_isolation": "read committed",
        "statement_timeout": f"{patience * 1000:.0f}",
        "lock_timeout": f"{LOCK_SECONDS * 1000:.0f}",
        # a desk that froze or vanished in a transaction must not hold rows and the desk's lock for ever
        "idle_in_transaction_session_timeout": "10000",
        "tcp_keepalives_idle": "10",
        "tcp_keepalives_interval": "5",
        "tcp_keepalives_count": "3",
    }
    tls = encryption(url, os.environ)
    return await asyncpg.connect(
        dsn=f"postgresql:///?{urlencode(tls)}" if tls else None,
        host=url.host or None,
        port=url.port,
        user=url.user or None,
        password=url.password or None,
        database=url.database,
        timeout=CONNECT_SECONDS,
        command_timeout=patience + 1,
        statement_cache_size=STATEMENTS_KEPT,
        max_cached_statement_lifetime=0,  # an order after a quiet night must not pay for preparing again
        server_settings=settings,
    )


@cache
def numbered(sql: str) -> str:
    """The statement with `$1, $2, …` for `?`; marks inside literals stay. Statements are constants, so few."""
    count = 0

    def mark(found: re.Match[str]) -> str:
        nonlocal count
        if found[0] != "?":
            return found[0]
        count += 1
        return f"${count}"

    return _MARK.sub(mark, sql)


def bound(values: Sequence[Any]) -> list[Any]:
    """The values as this server can hold them: its text has no NUL, and a row must not be lost for one."""
    return [
        value.replace("\0", "\N{REPLACEMENT CHARACTER}") if isinstance(value, str) and "\0" in value else value
        for value in values
    ]


def affected(status: str) -> int:
    """Rows that a statement changed, from its command tag."""
    verb, _, rest = status.partition(" ")
    return int(rest.rpartition(" ")[2]) if verb in ("INSERT", "UPDATE", "DELETE") else 0


def said(error: BaseException) -> str:
    """What the server said, without its details, which may hold values of rows."""
    if isinstance(error, asyncpg.PostgresError):
        return str(error.message or type(error).__name__)
    if isinstance(error, asyncio.TimeoutError):
        return "the database has not answered in time"
    if isinstance(error, OSError):
        return os.strerror(error.errno).lower() if error.errno else "the connection was lost"
    return str(error) or type(error).__name__


def sqlstate(error: BaseException) -> str:
    """The five letters of an error that the server sent, empty for any other."""
    return str(error.sqlstate or "") if isinstance(error, asyncpg.PostgresError) else ""


def as_store_error(error: Exception) -> StoreError:
    """What a failed statement means for whoever asked; its transaction is rolled back."""
    if isinstance(error, StoreError):
        return error
    state = sqlstate(error)
    if state == UNIQUE_VIOLATION:
        return DuplicateKey(said(error))
    # asyncpg raises ValueError kinds for values that it cannot put on the wire
    if state[:2] in ROW_CLASSES or isinstance(error, ValueError | OverflowError | TypeError):
        return RowRefused(said(error))
    return StoreUnavailable(said(error), machine=is_the_machine(error))


def is_the_machine(error: BaseException) -> bool:
    """Whether it proves nothing against the row; a lost connection may be the row's doing, if rarely."""
    state = sqlstate(error)
    return (state[:2] in MACHINE_CLASSES and state != STATEMENT_TIMEOUT) or state in MACHINE_STATES


def is_lost(error: BaseException) -> bool:
    """Whether the session is gone or of no use: connection, shutdown, a server that is silent, a stale statement."""
    if isinstance(error, asyncpg.InterfaceError) and not isinstance(error, ValueError):
        return True
    state = sqlstate(error)
    if state.startswith("57P") or state == "25P03":  # shutdown, crash, start; idle for too long in a transaction
        return True
    if state == READ_ONLY:  # another server took over: the name leads to it for a new session
        return True
    return isinstance(error, OSError | asyncio.TimeoutError) or state[:2] in ("08", "0A", "26")


def why_unreachable(error: BaseException) -> str:
    """Half a sentence about a session that could not be opened; never holds user, password or URL."""
    state = sqlstate(error)
    if isinstance(error, asyncio.TimeoutError):
        return "the server does not answer"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its TLS certificate is not trusted ({error.verify_message})"
    if isinstance(error, ssl.SSLError):
        return f"TLS failed ({error.reason or 'no reason given'})"
    if state[:2] == "28":
        return "the server refuses this user, password or connection"
    if state == "3D000":
        return "the server has no database of that name; createdb makes one"
    if state.startswith("57P"):
        return "the server is starting up or shutting down"
    if state.startswith("53"):
        return "the server has no connection to spare, or no room"
    if state:
        return f"the server answers {state}"
    if isinstance(error, asyncpg.ClientConfigurationError):
        return "its TLS files or connection settings cannot be used"
    if isinstance(error, ConnectionError) and error.strerror is None and "SSL" in str(error):
        return "the server does not offer TLS, which sslmode asks for"
    if isinstance(error, FileNotFoundError):
        return f"there is no {error.filename or 'server socket'}"
    if isinstance(error, OSError):
        return os.strerror(error.errno).lower() if error.errno else "the connection failed"
    return type(error).__name__
