"""A private PostgreSQL cluster for tests: made, run and removed here; a cluster that runs already is never touched."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import itertools
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import asyncpg

from engine.domain.postgres_url import PostgresUrl

T = TypeVar("T")
USER, PASSWORD = "desk", "canary-pw-4711"
PREFIX = "sextant-test-pg-"
PLACES = ("/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/usr/local/bin", "/usr/local/pgsql/bin")
MISSING = (
    "PostgreSQL was not tested: no server found on this machine. Install one (Debian: apt install postgresql; "
    "macOS: brew install postgresql), or name its bin directory in SEXTANT_TEST_POSTGRES_BIN"
)
# Nothing about durability: fsync stays on, as a server comes.
SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "shared_buffers": "16MB",
    "max_connections": "40",
    "autovacuum": "off",
    "log_min_messages": "fatal",
}
# Rows only, and no matter in which order: foreign keys rest meanwhile.
EMPTY = """
DO $$ DECLARE name text; BEGIN
    SET LOCAL session_replication_role = replica;
    FOR name IN SELECT tablename FROM pg_tables WHERE schemaname = 'sextant' AND tablename <> 'migrations' LOOP
        EXECUTE format('DELETE FROM sextant.%I', name)
            || CASE WHEN name = 'sextant' THEN ' WHERE name NOT IN (''product'', ''identity'')' ELSE '' END;
    END LOOP;
END $$
"""
PR_SET_PDEATHSIG = 1
PATIENCE_S = 60.0


def binaries() -> Path | None:
    """The directory of initdb and postgres: the one named, else that of PATH, else the newest installed."""
    named = os.environ.get("SEXTANT_TEST_POSTGRES_BIN")
    if named:
        return Path(named) if (Path(named) / "initdb").exists() else None
    on_path = shutil.which("initdb")
    found = [Path(on_path).resolve().parent] if on_path else []
    for place in PLACES:
        root, _, rest = place.partition("*")
        folders = Path(root).parent.glob(f"{Path(root).name}*{rest}") if rest else [Path(place)]
        found += sorted(
            folders, key=lambda path: [int(digits) for digits in re.findall(r"\d+", str(path))], reverse=True
        )
    return next((path for path in found if (path / "initdb").exists() and (path / "postgres").exists()), None)


def _die_with_parent() -> None:
    """Linux: a fast shutdown of the server when the tests are killed and cannot stop it themselves.

    What counts as the parent is the thread that starts the server: it must be the main one.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGINT)


def _sweep() -> None:
    """Remove what a killed run left; its directory bears the number of its process."""
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        owner = folder.name.removeprefix(PREFIX).partition("-")[0]
        if owner.isdigit() and not _is_alive(int(owner)):
            shutil.rmtree(folder, ignore_errors=True)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


class Cluster:
    """One server of our own; as root it runs as `nobody` (no user made, no mode changed)."""

    def __init__(self, bin_directory: Path) -> None:
        self._bin = bin_directory
        self._count = itertools.count(1)
        self._scratch: PostgresUrl | None = None
        self._server: subprocess.Popen[bytes] | None = None
        self.folder = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-"))
        self._as: dict[str, Any] = {"cwd": self.folder, "stdin": subprocess.DEVNULL}
        if os.geteuid() == 0:
            nobody = pwd.getpwnam("nobody")
            os.chown(self.folder, nobody.pw_uid, nobody.pw_gid)
            self._as |= {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]
        secret = self.folder / "secret"
        secret.write_text(PASSWORD)
        secret.chmod(0o644)  # inside a directory that only its owner enters
        command: list[str | Path] = [
            *(self._bin / "initdb", "-D", self.folder / "data", "-U", USER, "-E", "UTF8", "--no-locale", "--no-sync"),
            *("--auth-local=trust", "--auth-host=scram-sha-256", f"--pwfile={secret}"),
        ]
        made = subprocess.run(command, capture_output=True, text=True, check=False, **self._as)
        if made.returncode:
            raise RuntimeError(f"initdb failed: {made.stderr}")
        self.start()
        self.version = str(self.sql("SHOW server_version")[0][0]).split()[0]

    # --------------------------------------------------------------------------------------- server

    def start(self) -> None:
        """Start, and return when it takes connections."""
        options = [word for name, value in SETTINGS.items() for word in ("-c", f"{name}={value}")]
        self._server = subprocess.Popen(
            [self._bin / "postgres", "-D", self.folder / "data", "-k", self.folder, "-p", str(self.port), *options],
            stdout=subprocess.DEVNULL,
            stderr=(self.folder / "server.log").open("ab"),
            preexec_fn=_die_with_parent,
            **self._as,
        )
        status = self.folder / "data" / "postmaster.pid"
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError, IndexError):  # the file may be read while it is still empty
                lines = status.read_text().splitlines()
                if lines[0] == str(self._server.pid) and lines[-1].strip() == "ready":
                    return
            if self._server.poll() is not None:
                break
            time.sleep(0.01)
        raise RuntimeError(f"the server did not start: {(self.folder / 'server.log').read_text()}")

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """SIGINT: fast shutdown; SIGQUIT: at once, as after a power cut."""
        if self._server is not None:
            self._server.send_signal(how)
            self._server.wait(PATIENCE_S)
            self._server = None

    def processes(self) -> list[int]:
        """The server and its children; each is in a process group of its own."""
        assert self._server is not None
        listed = subprocess.run(["ps", "-axo", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
        pairs = [tuple(map(int, line.split())) for line in listed.splitlines()]
        return [self._server.pid, *(pid for pid, parent in pairs if parent == self._server.pid)]

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """SIGSTOP to all of it, SIGCONT afterwards."""
        stopped = self.processes()
        try:
            for pid in stopped:
                with contextlib.suppress(ProcessLookupError):  # a session of its ended by itself meanwhile
                    os.kill(pid, signal.SIGSTOP)
            yield
        finally:
            for pid in reversed(stopped):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)

    def remove(self) -> None:
        """Stop at once and remove every file."""
        with contextlib.suppress(Exception):
            self.stop(signal.SIGQUIT)
        if self._server is not None:
            self._server.kill()
            self._server.wait(PATIENCE_S)
        shutil.rmtree(self.folder, ignore_errors=True)

    def certificate(self, name: str) -> Path:
        """A certificate for 127.0.0.1 that nobody else signed; its key lies beside it."""
        path = self.folder / f"{name}.crt"
        what = ("-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1", "-days", "2", "-nodes", "-batch")
        how = ("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1")
        command: list[str | Path] = [*how, *what, "-keyout", path.with_suffix(".key"), "-out", path]
        subprocess.run(command, check=True, capture_output=True, umask=0o077, **self._as)
        return path

    @contextlib.contextmanager
    def tls(self) -> Iterator[bool]:
        """Whether the server speaks TLS meanwhile; it needs openssl and a server that was built with it."""
        is_on = shutil.which("openssl") is not None and self._turn_tls_on()
        try:
            yield is_on
        finally:
            if is_on:
                self.sql("ALTER SYSTEM RESET ssl")
                self.sql("SELECT pg_reload_conf()")
                self.await_setting("ssl", "off")

    def _turn_tls_on(self) -> bool:
        path = self.certificate("server")
        self.sql(f"ALTER SYSTEM SET ssl_cert_file = '{path}'")
        self.sql(f"ALTER SYSTEM SET ssl_key_file = '{path.with_suffix('.key')}'")
        try:
            self.sql("ALTER SYSTEM SET ssl = on")
        except asyncpg.PostgresError:
            return False
        self.sql("SELECT pg_reload_conf()")
        self.await_setting("ssl", "on")
        return True

    # ------------------------------------------------------------------------------------ databases

    def emptied(self) -> PostgresUrl:
        """One and the same database, with no rows of the test before: making its files anew costs half a second."""
        if self._scratch is None:
            self._scratch = self.database()
        else:
            self.end_sessions(self._scratch)
            self.sql(EMPTY, self._scratch.database)
        return self._scratch

    def database(self) -> PostgresUrl:
        """A new empty database, reached by TCP with a password."""
        name = f"desk_{next(self._count)}"
        self.sql(f'CREATE DATABASE "{name}"')
        return self.url(name)

    def url(self, database: str) -> PostgresUrl:
        return PostgresUrl(database=database, host="127.0.0.1", port=self.port, user=USER, password=PASSWORD)

    def sql(self, statement: str, database: str = "postgres") -> list[tuple[Any, ...]]:
        """Rows; in a thread with a loop of its own, so that it may be called from anywhere."""

        async def ask() -> list[tuple[Any, ...]]:
            raw = await asyncpg.connect(
                host=str(self.folder),
                port=self.port,
                user=USER,
                database=database,
                timeout=PATIENCE_S,
                command_timeout=PATIENCE_S,
            )
            try:
                return [tuple(row) for row in await raw.fetch(statement)]
            finally:
                await raw.close()

        return _in_thread(lambda: asyncio.run(ask()))

    def await_setting(self, name: str, value: str) -> None:
        """Return when new sessions have it; a reload reaches them a moment later."""
        deadline = time.monotonic() + PATIENCE_S
        while self.sql(f"SHOW {name}") != [(value,)]:
            assert time.monotonic() < deadline
            time.sleep(0.01)

    def end_sessions(self, url: PostgresUrl, like: str = "sextant process%") -> int:
        """pg_terminate_backend for a desk's sessions, until they are gone; how many there were."""
        rows = self.sql(
            "SELECT pid, pg_terminate_backend(pid) FROM pg_stat_activity "
            f"WHERE datname = '{url.database}' AND application_name LIKE '{like}'"
        )
        for pid, _ in rows:
            self.await_end(pid)
        return len(rows)

    def await_end(self, backend: int) -> None:
        """Return when a session of the server has ended: told to, it may still answer for a moment."""
        deadline = time.monotonic() + PATIENCE_S
        while self.sql(f"SELECT 1 FROM pg_stat_activity WHERE pid = {backend}"):
            assert time.monotonic() < deadline
            time.sleep(0.01)


def _in_thread(call: Callable[[], T]) -> T:
    results: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(call())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]


def running_cluster() -> Iterator[Cluster]:
    """A cluster for as long as the generator lives; None of it is left afterwards."""
    directory = binaries()
    assert directory is not None
    _sweep()
    cluster = Cluster(directory)
    try:
        yield cluster
    finally:
        cluster.remove()
