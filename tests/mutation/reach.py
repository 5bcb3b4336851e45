"""A pytest plugin: which tests reach which line of a package, and how long each takes. Asked for by `SEXTANT_REACH`."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from coverage import Coverage


class Reach:
    """Measures one test run; `where` gets seconds by test, the failed ones, and tests by path and line, as JSON."""

    def __init__(self, packages: list[str], where: Path) -> None:
        self._coverage = Coverage(data_file=None, include=[f"{each}/*" for each in packages])
        self._where = where
        self._seconds: dict[str, float] = {}
        self._failed: set[str] = set()
        self._coverage.start()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        """Name the test that runs now."""
        self._coverage.switch_context(item.nodeid)
        began = time.process_time()
        yield
        self._seconds[item.nodeid] = round(time.process_time() - began, 3)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """A test that fails here anyway, or is left out, notices nothing."""
        if report.outcome != "passed":
            self._failed.add(report.nodeid)

    def pytest_sessionfinish(self) -> None:
        """Write it down."""
        self._coverage.stop()
        data = self._coverage.get_data()
        lines: dict[str, dict[int, list[str]]] = {}
        for name in sorted(data.measured_files()):
            path = str(Path(name).relative_to(Path.cwd()))
            by_line = data.contexts_by_lineno(name).items()
            lines[path] = {line: sorted({*names} - self._failed - {""}) for line, names in by_line}
        self._where.write_text(
            json.dumps({"seconds": self._seconds, "failed": sorted(self._failed), "lines": lines}), "utf-8"
        )


def pytest_configure(config: pytest.Config) -> None:
    """Measure when the environment says what and where to."""
    if wanted := os.environ.get("SEXTANT_REACH"):
        packages, _, where = wanted.partition(":")
        config.pluginmanager.register(Reach(packages.split(","), Path(where)), "reach")
