"""A desk without a screen tells of its alerts over a real socket, and its address is in no file that it leaves."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.terminal import PATIENCE_S
from tests.unit.console.test_notify import DESK, SECRET, Receiver

pytestmark = pytest.mark.e2e

HEADLESS = """
import sys
import threading
from pathlib import Path
from console import running
from console.bootstrap import hosted, settings_for
from console.options import RunOptions

options = RunOptions(config=Path(sys.argv[1]), headless=True)
settings, tape, options = settings_for(options)
desk = hosted(settings, tape, options)
desk.host.started.add_done_callback(lambda done: desk.host.trouble("probe", "something wants a hand"))
threading.Thread(target=lambda: (sys.stdin.read(), desk.host.shut_down()), daemon=True).start()
sys.exit(running.headless(desk, options))
"""


def test_a_headless_desk_tells_its_channel(tmp_path: Path) -> None:
    receiver, state = Receiver(), tmp_path / "state"
    text = f'[desk]\nstate_dir = "{state}"\n[alerts.channels.phone]\nfrom = "warning"\nurl_env = "PHONE"\n'
    (tmp_path / "desk.toml").write_text(DESK + text)
    environ = {**os.environ, "PHONE": receiver.url, "HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(tmp_path)}
    command = [sys.executable, "-c", HEADLESS, str(tmp_path / "desk.toml")]
    with subprocess.Popen(
        command, env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as desk:
        try:
            body = receiver.body()
            out, err = desk.communicate(timeout=PATIENCE_S)
        finally:
            desk.kill()
            receiver.server.shutdown()
            receiver.server.server_close()
    assert (body["id"], body["severity"], body["text"]) == ("probe", "warning", "WARNING something wants a hand")
    assert desk.returncode == 0, err
    assert SECRET not in out + err
    kept = [path for path in state.rglob("*") if path.is_file()]
    assert kept
    assert not [path.name for path in kept if SECRET.encode() in path.read_bytes()]
