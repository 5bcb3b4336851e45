"""What every test shares: one hypothesis profile, and figures printed at the end of a run."""

from collections.abc import Iterator

import pytest
from hypothesis import settings

from engine.persistence import postgres as session
from engine.persistence import postgres_session
from tests.postgres import MISSING, Cluster, binaries, running_cluster

# The same examples on every machine and every run; a slow machine is no failure.
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci")


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A private PostgreSQL server, started by the first test of this process that asks for it."""
    if binaries() is None:
        pytest.skip(MISSING)
    yield from running_cluster()


@pytest.fixture
def postgres(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    """The same for a test in which a server that is merely slow, on a busy machine, is no server in trouble."""
    monkeypatch.setattr(postgres_session, "CONNECT_SECONDS", 30.0)
    monkeypatch.setattr(postgres_session, "SERVER_SECONDS", 20.0)
    # a session that is not seen to its end may hold the desk's lock for a moment longer
    monkeypatch.setattr(session, "CLOSE_SECONDS", 30.0)
    return cluster


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what tests recorded with `record_property("figures", text)`, whichever process ran them."""
    lines = [
        str(text)
        for report in terminalreporter.getreports("passed") + terminalreporter.getreports("failed")
        for name, text in report.user_properties
        if name == "figures" and report.when == "call"
    ]
    if lines:
        terminalreporter.section("figures")
        for line in lines:
            terminalreporter.write_line(line)
