"""What every command shares: its exit codes, its options, and how it fails in one plain line."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from console.formatting import plain
from engine.errors import ConfigurationError, DeskUnusable, SextantError

FINE, FAILED, BAD_INPUT, UNUSABLE, INTERRUPTED = 0, 1, 2, 3, 130

ConfigOption = Annotated[
    Path | None, typer.Option("--config", metavar="FILE", help="The sextant.toml to run (or SEXTANT_CONFIG).")
]
DbOption = Annotated[
    str | None,
    typer.Option(
        "--db", metavar="URL", help="The audit trail: a SQLite file, or postgresql://USER@HOST/DB (or SEXTANT_DB)."
    ),
]
StateOption = Annotated[
    Path | None,
    typer.Option("--state-dir", metavar="DIR", help="Where the desk keeps its state (or SEXTANT_STATE_DIR)."),
]


def complain(what: str, code: int) -> int:
    """One plain line on stderr; returns the exit code."""
    with contextlib.suppress(OSError):  # if nobody reads stderr, the exit code still tells
        sys.stderr.write(plain(f"sextant: {what.strip()}") + "\n")
        sys.stderr.flush()
    return code


def closed_pipe() -> int:
    """Whoever read our output has seen enough (`| head`): no error. What is still buffered goes nowhere."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
    return FINE


def guarded(command: Callable[[], int]) -> int:
    """Run a command; every error becomes one line and an exit code."""
    try:
        code = command()
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        return closed_pipe()
    except ConfigurationError as error:
        return complain(str(error), BAD_INPUT)
    except DeskUnusable as error:
        return complain(str(error), UNUSABLE)
    except SextantError as error:
        return complain(str(error), FAILED)
    except KeyboardInterrupt:
        return INTERRUPTED
    except Exception as error:  # a defect of ours: the log has it whole, the operator gets a line
        logging.getLogger("sextant").critical("the command failed", exc_info=error)
        frame = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{Path(frame.filename).name}:{frame.lineno}"
        return complain(f"internal error: {type(error).__name__}: {error} ({where})", FAILED)
