"""Turn every picture beside this file into screenshots/png/NAME.png, for pages that show no SVG.

Run from anywhere: `python screenshots/png.py [NAME …]`, or `make screenshots-png`. Fira Code, or whatever monospaced
font this machine has, draws the letters.
"""

from __future__ import annotations

import sys
from pathlib import Path

import resvg_py

HERE = Path(__file__).resolve().parent
ZOOM = 1.5


def main(names: list[str]) -> int:
    """Convert the named pictures, or all; 2 when one is not there."""
    pictures = [HERE / f"{name}.svg" for name in names] or sorted(HERE.glob("*.svg"))
    missing = [str(picture) for picture in pictures if not picture.exists()]
    if missing:
        sys.stderr.write(f"no such picture: {', '.join(missing)}; `make screenshots` writes them\n")
        return 2
    (HERE / "png").mkdir(exist_ok=True)
    for picture in pictures:
        target = HERE / "png" / f"{picture.stem}.png"
        target.write_bytes(bytes(resvg_py.svg_to_bytes(svg_path=str(picture), zoom=ZOOM)))
        sys.stdout.write(f"screenshots/png/{target.name}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
