"""Who a container belongs to and what type it is, by the ordered matchers of identity.yaml.

Owns the matchers and how far a claim is believed. Everything a user can set is a claim; pure, asks nothing.
"""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Literal

from ds01_policy.images import image_fits
from ds01_policy.limits import UNKNOWN
from ds01_policy.model import Problem
from ds01_policy.rules import selected

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ds01_policy.model import Container
    from ds01_policy.rules import Selector

# What directories hand out: `alice`, `s1234567`, `alice@uni.example`, `UNI\alice`; a bare number is a UID, no name.
USER_NAME = re.compile(r"(?!\d+\Z)[A-Za-z0-9_][A-Za-z0-9_.@+\\-]{0,63}\Z", re.ASCII)
_UID = re.compile(r"\d{1,10}\Z", re.ASCII)


@dataclass(frozen=True, slots=True)
class TypeMatcher:
    """First matcher whose selectors all hold names the type. No selectors: always holds."""

    type: str
    selectors: tuple[Selector, ...] = ()


@dataclass(frozen=True, slots=True)
class OwnerMatcher:
    """One way to find an owner."""

    via: Literal["label", "label_home", "name", "mounts", "process"]
    label: str = ""  # for label and label_home
    guarded: bool = False  # for label: a wrapper or an authorization plugin of the site controls this label
    pattern: str = ""  # for name: a regular expression with a group `user` or `uid`
    homes: tuple[str, ...] = ("/home",)  # for label_home and mounts


@dataclass(frozen=True, slots=True)
class Trust:
    """What makes an infrastructure label believable. Shell patterns."""

    owners: tuple[str, ...] = ()
    images: tuple[str, ...] = ()
    names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Identity:
    """identity.yaml."""

    types: tuple[TypeMatcher, ...] = ()
    owners: tuple[OwnerMatcher, ...] = ()
    infrastructure_labels: tuple[str, ...] = ()  # `key=value`
    trusted: Trust = Trust()


@dataclass(frozen=True, slots=True)
class Identified:
    """Who and what a container is, and how that was found."""

    type: str
    type_via: str
    owner: str
    owner_via: str
    proven: bool  # the owner rests on more than a label or a name that any user can choose
    infrastructure: bool  # claimed and trusted, or an image that is trusted by itself
    problems: tuple[Problem, ...] = ()


@dataclass(frozen=True, slots=True)
class _Sign:
    """Something that points to a user."""

    user: str
    via: str
    firm: bool  # not a claim that any user can make
    said: str = ""  # of a claim: its words, for when they are contradicted
    guarded: bool = False  # only a wrapper of the site's can have made it: a mount, which anybody can ask for, is firm


def identify(
    identity: Identity,
    container: Container,
    *,
    process_uid: int | None,
    user_of_uid: Callable[[int], str | None],
    host: str = "",
) -> Identified:
    """Find type, owner and trust of a container that carries Docker's facts (and its GPUs, if a type asks for them).

    `process_uid` is the UID of its first process on the host, None where there is none. `user_of_uid` must not raise.
    """
    problems: list[Problem] = []
    type_, type_via = _type_of(identity.types, container, host)
    signs: list[_Sign] = []
    for matcher in identity.owners:
        sign = _sign(matcher, container, process_uid, user_of_uid)
        if sign is not None and USER_NAME.match(sign.user) and sign.user != UNKNOWN:
            signs.append(sign)
        elif sign is not None and sign.user not in ("", UNKNOWN) and not signs:
            problems.append(Problem("owner_ignored", f"{_called(container)}: {sign.said[:120]!r} is no user name"))
    owner = _owner_of(signs, container, problems)
    if owner is None:
        via = f"process uid {process_uid} has no user name" if process_uid else ""
        owner = _Sign(UNKNOWN, via, firm=False)  # a number is nobody whom limits, groups or a warning could name
    infrastructure = _infrastructure(identity, container, owner, problems)
    return Identified(type_, type_via, owner.user, owner.via, owner.firm, infrastructure, tuple(problems))


def _type_of(matchers: Iterable[TypeMatcher], container: Container, host: str) -> tuple[str, str]:
    for matcher in matchers:
        if all(selected(selector, container, host) for selector in matcher.selectors):
            return matcher.type, ", ".join(
                f"{selector.name} {'not ' if selector.negated else ''}{'|'.join(selector.values)}"
                for selector in matcher.selectors
            )
    return UNKNOWN, ""


# ── the owner ────────────────────────────────────────────────────────────────────────────────────────────────────────


def _owner_of(signs: list[_Sign], container: Container, problems: list[Problem]) -> _Sign | None:
    """Believe the first sign; a mere claim that nothing firm backs gives way to what is firm."""
    if not signs or signs[0].firm:
        return signs[0] if signs else None
    claimed = signs[0]
    firm = [sign for sign in signs if sign.firm]
    if any(sign.user == claimed.user for sign in firm):
        return _Sign(claimed.user, claimed.via, firm=True)
    if not firm:
        return claimed
    shown = firm[0]
    detail = f"{_called(container)}: {claimed.said}, but {shown.via} shows {shown.user}, who is taken for its owner"
    problems.append(Problem("owner_conflict", detail))
    return _Sign(shown.user, f"{shown.via}; {claimed.said} contradicted", firm=True)


def _sign(
    matcher: OwnerMatcher, container: Container, process_uid: int | None, user_of_uid: Callable[[int], str | None]
) -> _Sign | None:
    """Ask one matcher; the user it names is not checked yet."""
    via = f"label {matcher.label}"
    match matcher.via:
        case "label":
            user = container.labels.get(matcher.label)
            return _Sign(user, via, matcher.guarded, f"{via}={user}", matcher.guarded) if user is not None else None
        case "label_home":
            found = _under_home(container.labels.get(matcher.label, ""), matcher.homes)
            return _Sign(found[0], via, matcher.guarded, f"{via} ({found[1]})", matcher.guarded) if found else None
        case "name":
            user = _user_in_name(matcher.pattern, container.name, user_of_uid)
            return _Sign(user, "name", firm=False, said=f"name ({user})") if user else None
        case "mounts":
            sources = [mount.source for mount in container.mounts if mount.kind == "bind"]
            homes = {home for source in sources if (home := _under_home(source, matcher.homes)) is not None}
            users = {user for user, _ in homes if USER_NAME.match(user)}
            if len(users) != 1:  # data of several people says nothing about whose the container is
                return None
            user = users.pop()
            return _Sign(user, f"mount {min(home for found, home in homes if found == user)}", firm=True)
        case "process":
            # Root runs most images, whoever started them; and many others run as 1000, whoever that is on this host. So
            # it is better than nobody, proves nothing, and contradicts nobody.
            user = user_of_uid(process_uid) if process_uid else None
            return _Sign(user, f"process uid {process_uid}", firm=False) if user else None


def _under_home(path: str, homes: tuple[str, ...]) -> tuple[str, str] | None:
    """Split `/home/alice/work` into the user and `/home/alice`; None: it lies under no home."""
    normal = _normal(path)
    for home in map(_normal, homes):
        if home and normal.startswith(f"{home}/"):
            user = normal[len(home) + 1 :].partition("/")[0]
            return user, f"{home}/{user}"
    return None


def _normal(path: str) -> str:
    """Resolve `..` and doubled slashes; "" for what is no absolute path."""
    return "/" + posixpath.normpath(path).strip("/") if path.startswith("/") else ""


def _user_in_name(pattern: str, name: str, user_of_uid: Callable[[int], str | None]) -> str | None:
    found = re.search(pattern, name)
    groups = found.groupdict() if found else {}
    if groups.get("user"):
        return groups["user"]
    uid = groups.get("uid") or ""
    return user_of_uid(int(uid)) if _UID.match(uid) else None


# ── infrastructure ───────────────────────────────────────────────────────────────────────────────────────────────────


def _infrastructure(identity: Identity, container: Container, owner: _Sign, problems: list[Problem]) -> bool:
    """Believe a label together with something trusted; an image that is trusted needs no label."""
    trusted = identity.trusted
    if any(image_fits(container.image, pattern) for pattern in trusted.images):
        return True
    claimed = next((label for label in identity.infrastructure_labels if _carries(container, label)), None)
    if claimed is None:
        return False
    if any(fnmatchcase(container.name, pattern) for pattern in trusted.names):
        return True
    if owner.guarded and any(fnmatchcase(owner.user, pattern) for pattern in trusted.owners):
        return True
    whose = f"{owner.user!r} ({owner.via or 'no sign of anybody'}{'' if owner.guarded else ', unproven'})"
    detail = (
        f"{_called(container)} carries {claimed} but is treated like any other: neither its image {container.image!r} "
        f"nor its name nor its owner {whose} is trusted; if it should be, list its image or its name in identity.yaml "
        "under infrastructure.trusted"
    )
    problems.append(Problem("untrusted_claim", detail))
    return False


def _carries(container: Container, label: str) -> bool:
    key, has_value, value = label.partition("=")
    return key in container.labels and (not has_value or container.labels[key] == value)


def _called(container: Container) -> str:
    return f"container {container.name!r} ({container.short})"
