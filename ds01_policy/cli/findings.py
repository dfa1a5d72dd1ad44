"""How findings are written: for people, for programs, and as annotations of a pull request.

Owns the three forms. Finds nothing.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ds01_policy.config.why import WHY, WHY_LIVE
from ds01_policy.text import plain

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ds01_policy.config.problems import Finding
    from ds01_policy.report.layout import Page

Form = Literal["text", "github", "json"]
_LONG = 2000  # characters of one line
_ERROR = "The policy is not used as long as this is so."


def written(findings: Sequence[Finding], form: Form, page: Page) -> str:
    """Write findings in one of the three forms; every line ends with a newline."""
    return {"text": _text, "github": _github, "json": _json}[form](findings, page)


def why(finding: Finding) -> str:
    """Say why a finding matters."""
    return _ERROR if finding.severity == "error" else (WHY | WHY_LIVE).get(finding.slug, "")


def _message(finding: Finding) -> str:
    meant = f"; did you mean {finding.suggestion!r}?" if finding.suggestion else ""
    return plain(f"{finding.message}{meant}", _LONG)


def _text(findings: Sequence[Finding], page: Page) -> str:
    """One line a finding, for editors and pipes to find places in; below it why it matters, once for each slug."""
    lines = []
    said = set()
    for one in findings:
        lines.append(plain(f"{one} [{one.slug}]", _LONG))
        if why(one) and why(one) not in said:
            lines += page.hang("    ", why(one))
            said.add(why(one))
    lines.append(f"{len(findings)} finding{'s' if len(findings) != 1 else ''}")
    return "\n".join(lines) + "\n"


def _json(findings: Sequence[Finding], _: Page) -> str:
    rows = [
        {
            "slug": one.slug,
            "file": one.file,
            "line": one.line,
            "column": one.col,
            "severity": one.severity,
            "message": one.message,
            "suggestion": one.suggestion,
            "why": why(one),
        }
        for one in findings
    ]
    return json.dumps({"schema": 1, "command": "check", "findings": rows}, indent=2) + "\n"


def _github(findings: Sequence[Finding], _: Page) -> str:
    """Workflow commands, one a line: GitHub shows them beside the lines that they are about."""
    return "".join(f"{_command(one)}\n" for one in findings)


def _command(one: Finding) -> str:
    places = {"file": from_here(one.file), "line": one.line, "col": one.col} if one.line else {}
    properties = ",".join(f"{key}={_property(str(value))}" for key, value in {**places, "title": one.slug}.items())
    kind = "notice" if one.severity == "note" else one.severity
    return f"::{kind} {properties}::{_data(chr(10).join(filter(None, (_message(one), why(one)))))}"


def from_here(file: str) -> str:
    """Name a file as the repository does, if it is checked out where we stand."""
    path = Path(file).absolute()
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else file


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
