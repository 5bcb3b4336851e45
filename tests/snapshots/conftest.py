"""No animation, no colour wishes of the machine that runs the tests; the Pilot waits by the loop."""

import os

from tests.console.idle import by_the_loop

__all__ = ["by_the_loop"]

os.environ["TEXTUAL_ANIMATIONS"] = "none"
os.environ["TEXTUAL_DISABLE_KITTY_KEY"] = "1"
for name in ("NO_COLOR", "SSH_CONNECTION", "TEXTUAL_THEME"):
    os.environ.pop(name, None)
