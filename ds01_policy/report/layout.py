"""Lines of text that fit a terminal: display width, wrapping, colour, and times as people say them.

Owns how things are laid out, not what is said. Everything that comes from outside goes through `text.plain`.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Literal

from ds01_policy.text import plain
from ds01_policy.units import format_duration

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime, tzinfo

    from ds01_policy.model import Gpu, GpuClaim, SourceState

Style = Literal["bold", "dim", "red", "green", "yellow"]
_SGR: dict[Style, str] = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33"}

NARROWEST = 60  # columns; below that nothing readable fits
_BESIDE = 30  # columns that text beside a lead needs; with less it goes below

# `12 B/s < 10 KiB/s` and `Thu 04:12` are one thing to the eye: never broken inside.
# Looked for from the start of a word only: from everywhere, one long word would take quadratic time.
_AMOUNT = r"\S+(?: (?:[KMGT]i)?B(?:/s)?| W)?"
_COMPARISON = rf"(?<!\S)(?:\S+ )?{_AMOUNT} [<>≤≥=≠] {_AMOUNT}"
_ONE_THING = re.compile(rf"{_COMPARISON}|\d{{4}}-\d\d-\d\d \d\d:\d\d(?: UTC)?|\b[A-Z][a-z]{{2}} \d\d:\d\d\b")
_GLUE = "\u00a0"


@dataclass(frozen=True, slots=True)
class Page:
    """Where lines go: how wide they may be, and whether they may be coloured."""

    width: int = 80
    colour: bool = False

    @property
    def columns(self) -> int:
        """Columns that may be used."""
        return max(self.width, NARROWEST)

    def paint(self, text: str, *styles: Style) -> str:
        """Colour a finished piece of text; widths are counted before."""
        if not self.colour or not styles or not text:
            return text
        return f"\x1b[{';'.join(_SGR[style] for style in styles)}m{text}\x1b[0m"

    def hang(self, lead: str, text: str, *styles: Style, indent: int | None = None) -> list[str]:
        """Write `lead`, then the text beside it, wrapped; styles are for the lead.

        Further lines hang under the first, or at `indent`. Where too little room is left the text goes below.
        """
        start = columns(lead)
        indent = start if indent is None else indent
        if self.columns - start < _BESIDE:
            return [self.paint(fit(lead.rstrip(), self.columns), *styles), *_indented(text, 4, self.columns)]
        lines = _indented(text, indent, self.columns, start)
        return [(self.paint(lead, *styles) + (lines[0] if lines else "")).rstrip(), *lines[1:]]


def columns(text: str) -> int:
    """Count terminal columns: East Asian wide characters take two, combining marks none."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(each) else 2 if unicodedata.east_asian_width(each) in "WF" else 1 for each in text
    )


def fit(text: str, width: int) -> str:
    """Cut to at most `width` columns, the cut marked by `…`."""
    if columns(text) <= width:
        return text
    head, _ = _split(text, width - 1, least=0)
    return head + "…"


def pad(text: str, width: int) -> str:
    """Cut or fill to exactly `width` columns."""
    text = fit(text, width)
    return text + " " * (width - columns(text))


def wrap(text: str, width: int) -> list[str]:
    """Break at spaces into lines of at most `width` columns; a longer word is broken where it must be."""
    return _indented(text, 0, width)


def _indented(text: str, indent: int, width: int, start: int | None = None) -> list[str]:
    """Wrap to `width` columns, every line indented but the first, which has what `start` columns leave."""
    lines: list[str] = []
    line, room = "", width - (indent if start is None else start)
    margin = " " * indent if start is None else ""

    def finish() -> None:
        nonlocal line, room, margin
        lines.append(margin + line.replace(_GLUE, " "))
        line, room, margin = "", width - indent, " " * indent

    glued = _ONE_THING.sub(lambda found: found[0].replace(" ", _GLUE), text.replace(_GLUE, " "))
    for word in filter(None, glued.split(" ")):
        if line and columns(line) + 1 + columns(word) > room:
            finish()
        line = f"{line} {word}" if line else word
        while columns(line) > room:
            head, rest = _split(line, room)
            line = head
            finish()
            line = rest
    if line:
        finish()
    return lines


def _split(text: str, width: int, least: int = 1) -> tuple[str, str]:
    """Take as much from the front as fits into `width` columns, and at least `least` characters."""
    end = used = 0
    while end < len(text) and used + columns(text[end]) <= width:
        used += columns(text[end])
        end += 1
    end = max(end, least)
    return text[:end], text[end:]


@dataclass(frozen=True, slots=True)
class Clock:
    """Times as seen from one instant, in one time zone."""

    at: datetime
    tz: tzinfo | None = None  # None: the machine's own

    def stamp(self) -> str:
        """Say the instant itself in full, with the offset that every other time on the page shares."""
        local = self.at.astimezone(self.tz)
        offset = local.strftime("%z")
        return f"{local:%a %Y-%m-%d %H:%M} (UTC{offset[:3]}:{offset[3:5]})"

    def absolute(self, when: datetime) -> str:
        """`04:12` on the same day, `Thu 04:12` within six days, else the date."""
        local, now = when.astimezone(self.tz), self.at.astimezone(self.tz)
        if local.date() == now.date():
            return f"{local:%H:%M}"
        return f"{local:%a %H:%M}" if abs(when - self.at) < timedelta(days=6) else f"{local:%Y-%m-%d %H:%M}"

    def both(self, when: datetime) -> str:
        """`in 9m, 04:12`, `10m ago, 03:53`, or `now, 04:03`."""
        away = when - self.at
        if abs(away) < timedelta(seconds=1):
            return f"now, {self.absolute(when)}"
        if away > timedelta(0):
            return f"in {self._rough(away)}, {self.absolute(when)}"
        return f"{self._rough(-away)} ago, {self.absolute(when)}"

    @staticmethod
    def _rough(duration: timedelta) -> str:
        """Seconds matter to nobody beyond the first two minutes."""
        if duration >= timedelta(minutes=2):
            duration -= duration % timedelta(minutes=1)
        return format_duration(duration)


def source_words(name: str, state: SourceState) -> str:
    """`prometheus up (8 queries)`, `prometheus DOWN (connection refused)`, `prometheus off (…)`."""
    notes = [
        f"{value} {key}" if isinstance(value, int) else f"{key} {plain(value)}" for key, value in state.extra.items()
    ]
    if state.detail:
        notes.insert(0, plain(state.detail))
    word = "up" if state.up else "off" if state.off else "DOWN"
    return f"{name} {word}" + (f" ({', '.join(notes)})" if notes else "")


def gpu_words(claim: GpuClaim, gpus: Iterable[Gpu]) -> str:
    """Name what a container may use as `nvidia-smi` counts: `0-3,6`, `2:gi7`; `?` where it is unclear, `-` for none."""
    if not claim.wants:
        return "-"
    index = {gpu.uuid: gpu.index for gpu in gpus}
    whole = sorted(index[ref.uuid] for ref in claim.refs if ref.gpu_instance is None and ref.uuid in index)
    parts = _ranges(whole)
    parts += [
        f"{index.get(ref.uuid, plain(ref.uuid, 12))}" + ("" if ref.gpu_instance is None else f":gi{ref.gpu_instance}")
        for ref in sorted(claim.refs, key=lambda ref: (index.get(ref.uuid, -1), ref.uuid, ref.gpu_instance or 0))
        if ref.gpu_instance is not None or ref.uuid not in index
    ]
    if claim.unclear or not parts:
        parts.append("?")
    return ",".join(parts)


def _ranges(numbers: list[int]) -> list[str]:
    """`[0, 1, 2, 5]` as `0-2`, `5`; two in a row stay two."""
    runs: list[list[int]] = []
    for each in numbers:
        if runs and each == runs[-1][-1] + 1:
            runs[-1].append(each)
        else:
            runs.append([each])
    return [
        text
        for run in runs
        for text in ([f"{run[0]}-{run[-1]}"] if len(run) > 2 else [str(each) for each in run])  # noqa: PLR2004
    ]
