"""Old lifecycle exemptions: who is exempt from what, and until when.

Owns that each one ends: one that did not is given thirty days, and somebody is told.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING

from pydantic_core import PydanticCustomError

from ds01_policy.config.exemptions_file import expiry

if TYPE_CHECKING:
    from ds01_policy.config.bring.account import Old
    from ds01_policy.config.yaml_strict import Path

DAYS = 30  # what an exemption without an end is given
RULES = {"idle_timeout": "idle-gpu", "max_runtime": "max-runtime"}
_WHO = {"username": "user", "user": "user", "container": "container"}
_WHEN = ("expires_on", "expires")
_UNSAID = "not said in the old file"


@dataclass(frozen=True, slots=True)
class Leave:
    """One exemption as exemptions.yaml has it."""

    who: tuple[tuple[str, str], ...]  # user or container, and its name
    rules: tuple[str, ...]
    reason: str
    approved_by: str
    expires: str  # a date, or a time with its zone


def leaves_of(old: Old, now: datetime) -> list[Leave]:
    """Take the exemptions that still hold."""
    entries = old.document.get("exemptions")
    if entries is None:
        return []
    if not isinstance(entries, list):
        old.refuse(("exemptions",), "must be a list")
        return []
    found = (_leave(old, ("exemptions", index), now) for index in range(len(entries)))
    return [leave for leave in found if leave is not None]


def _leave(old: Old, path: Path, now: datetime) -> Leave | None:
    entry = old.mapping(*path)
    who = {_WHO[key]: old.text_at((*path, key)) for key in _WHO if entry.get(key) is not None}
    rules = _rules(old, path)
    expires = _expires(old, path, now)
    if not who or not rules or expires is None:
        nobody = "it names neither a user nor a container"
        _leave_out(old, path, nobody if not who else "it has expired" if rules else "no rule here asks about it")
        return None
    for key in entry:
        if key in _WHO:
            old.say((*path, key), f"taken as `{_WHO[key]}: {who[_WHO[key]]}` (exemptions.yaml)")
    given = {name: value for name, value in who.items() if value is not None}
    return (
        Leave(tuple(given.items()), rules, _words(old, path, "reason"), _words(old, path, "approved_by"), expires)
        if given
        else None
    )


def _leave_out(old: Old, path: Path, why: str) -> None:
    """Leave a whole exemption out, loudly."""
    for key in old.mapping(*path):
        old.say_instead((*path, key), f"not used: {why}", loud=True)


def _rules(old: Old, path: Path) -> tuple[str, ...]:
    at = (*path, "exempt_from")
    value = old.document.get(*at)
    listed = value if isinstance(value, list) else [value] if isinstance(value, str) else []
    known = [RULES[name] for one in listed if (name := str(one).removesuffix("_h")) in RULES]
    others = [str(one) for one in listed if str(one).removesuffix("_h") not in RULES]
    if known:
        left = f"; {', '.join(others)} is no limit that a rule here asks about" if others else ""
        rules = tuple(dict.fromkeys(known))
        old.say(at, f"taken as `rules: [{', '.join(rules)}]` (exemptions.yaml){left}", loud=bool(others))
        return rules
    return ()


def _words(old: Old, path: Path, key: str) -> str:
    """Take text that exemptions.yaml must have."""
    at = (*path, key)
    text = old.text_at(at)
    if text is None and at not in old.told:
        if key in old.mapping(*path):
            old.say(at, f"taken as `{key}: {_UNSAID}` (exemptions.yaml)", loud=True)
        else:
            old.note(f"{path[0]}[{path[1]}] has no {key}: `{_UNSAID}` stands there now", path=path)
    elif text is not None:
        old.say(at, f"taken as `{key}` (exemptions.yaml)")
    return text or _UNSAID


def _expires(old: Old, path: Path, now: datetime) -> str | None:
    """Settle until when it holds; None: no longer."""
    entry = old.mapping(*path)
    given = next((key for key in _WHEN if entry.get(key) is not None), None)
    empty = [key for key in _WHEN if key in entry and key != given]
    for key in empty if given else ():
        old.say((*path, key), f"not used: {given} says it")
    if given is None:
        ends = (now.astimezone(UTC) + timedelta(days=DAYS)).date().isoformat()
        became = f"nobody is exempt for ever here: it ends on {ends}, in {DAYS} days; renew it in exemptions.yaml"
        for key in empty:
            old.say((*path, key), became, loud=True)
        if not empty:
            old.note(f"{path[0]}[{path[1]}] has no expires_on: {became}", path=path)
        return ends
    at = (*path, given)
    value = old.document.get(*at)
    text, assumed = _zoned(value) if isinstance(value, str) else (str(value), "")
    try:
        until = expiry(text)
    except PydanticCustomError as error:
        old.refuse(at, str(error))
        return text
    if until <= now:
        return None
    old.say(at, f"taken as `expires: {text}` (exemptions.yaml){assumed}", loud=bool(assumed))
    return text


def _zoned(text: str) -> tuple[str, str]:
    """Read a time without a zone as UTC, and say so."""
    text = text.strip()
    try:
        is_date = date.fromisoformat(text).isoformat() == text
    except ValueError:
        is_date = False
    try:
        naive = not is_date and datetime.fromisoformat(text).tzinfo is None
    except ValueError:
        naive = False
    return (f"{text}Z", ": without a zone it is read as UTC") if naive else (text, "")
