"""Draws what `preview` shows of the recorded host, as a terminal would show it: `python tests/replay/draw_preview.py`.

Writes preview.svg beside this file, for the README. A test holds the two together.
"""

from __future__ import annotations

import re
import sys
from datetime import UTC
from html import escape
from pathlib import Path

from ds01_policy.config.load import load
from ds01_policy.observe.recording import replay
from ds01_policy.report.layout import Clock, Page, columns
from ds01_policy.report.tables import Tick, table
from ds01_policy.tick import look

HERE = Path(__file__).parent
PICTURE = HERE / "preview.svg"
COLUMNS = 100
_CELL, _LINE, _MARGIN = 8.43, 19, 16  # pixels: of a 14 pixel monospace font
_SPACE = "\u00a0"  # unlike a plain one it is never folded
_STYLE = {"1": "b", "2": "d", "31": "r", "32": "g", "33": "y"}
_HEAD = """<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}">
<title>ds01-policy preview</title>
<style>
text {{ font: 14px ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace; fill: #d8dee9 }}
.b {{ font-weight: bold; fill: #ffffff }} .d {{ fill: #8a93a5 }} .r {{ fill: #ff7b72 }} .g {{ fill: #7ee787 }}
.y {{ fill: #f2cc60 }}
</style>
<rect width="100%" height="100%" rx="8" fill="#14181f"/>
"""


def picture(text: str) -> str:
    """Draw lines with SGR colours as they come from `preview` on a terminal."""
    lines = text.rstrip("\n").split("\n")
    width = round(COLUMNS * _CELL) + 2 * _MARGIN
    drawn = [_HEAD.format(width=width, height=len(lines) * _LINE + 2 * _MARGIN)]
    for number, line in enumerate(lines, 1):
        drawn.append(f'<text x="{_MARGIN}" y="{_MARGIN + number * _LINE - 5}">{_spans(line)}</text>\n')
    return "".join([*drawn, "</svg>\n"])


def _spans(line: str) -> str:
    """Give each run of one style a place of its own: fonts differ in width, columns must not."""
    style, at, found = "", 0, []
    for piece in re.split(r"(\x1b\[[0-9;]*m)", line):
        if piece.startswith("\x1b["):
            style = " ".join(_STYLE[code] for code in piece[2:-1].split(";") if code in _STYLE)
        elif piece:
            words = piece.lstrip()  # some programs drop leading spaces
            x = _MARGIN + (at + columns(piece) - columns(words)) * _CELL
            kind = f' class="{style}"' if style else ""
            found.append(f'<tspan x="{x:.1f}"{kind}>{escape(words.replace(" ", _SPACE), quote=False)}</tspan>')
            at += columns(piece)
    return "".join(found)


def drawn() -> str:
    """Draw the recorded host."""
    return picture(f"\x1b[1m$ ds01-policy preview\x1b[0m\n{shown()}")


def shown() -> str:
    """Look at the recorded host with its lab's policy, on a terminal in colour."""
    recorded = replay(HERE / "demo")
    policy = load(HERE / "demo-config", unix_group=lambda _: None)
    it = look(policy, recorded.sources, recorded.at, recorded.history)
    tick = Tick("preview", policy.settings.mode, it.snapshot, it.evaluation, it.plan, it.outcomes, it.problems)
    return table(tick, Page(COLUMNS, colour=True), Clock(recorded.at, UTC))


if __name__ == "__main__":
    PICTURE.write_text(drawn(), "utf-8")
    sys.stdout.write(f"{PICTURE}\n")
