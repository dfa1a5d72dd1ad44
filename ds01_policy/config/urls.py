"""URLs and addresses in settings.yaml: of Docker, of Prometheus, and of our own metrics.

Owns which ones can be used. Opens none.
"""

from __future__ import annotations

import re
from ipaddress import ip_address
from urllib.parse import urlsplit

from ds01_policy.config.scalars import refuse, shown

_ADDRESS = re.compile(r"(?:\[(?P<six>[0-9A-Fa-f:.]+)\]|(?P<host>[^:\[\]]+)):(?P<port>[0-9]{1,5})", re.ASCII)
_HOST = re.compile(r"[A-Za-z0-9_.:-]+")
_LAST_PORT = 65535


def docker_url(value: str) -> str:
    """Check where the Docker engine listens."""
    scheme, _, rest = value.partition("://")
    if scheme == "unix" and rest.startswith("/"):
        return value
    return _url(value, ("http", "https", "tcp"), "unix:///path, http://, https:// or tcp://")


def http_url(value: str) -> str:
    """Check the base of an HTTP API; secrets have no place in it."""
    url = _url(value, ("http", "https"), "http:// or https://")
    if "@" in urlsplit(url).netloc:
        raise refuse("bad_url", "no user or password in a URL: use basic_auth or bearer_token_file")
    return url


def listen_address(value: str) -> str:
    """Check where metrics are served: a host or address and a port, as `host_and_port` takes it apart."""
    try:
        host, port = host_and_port(value)
        usable = bool(_HOST.fullmatch(host)) and 0 < port <= _LAST_PORT
        if ":" in host:
            ip_address(host)
    except ValueError:
        usable = False
    if not usable:
        written = "HOST:PORT like 127.0.0.1:9465, or [::1]:9465"
        raise refuse("bad_address", f"{shown(value)} is not an address to listen at; write {written}, or `never`")
    return value


def host_and_port(value: str) -> tuple[str, int]:
    """Take `HOST:PORT` or `[IPv6]:PORT` apart. Raises ValueError."""
    found = _ADDRESS.fullmatch(value)
    if not found:
        raise ValueError(value)
    return found["six"] or found["host"], int(found["port"])


def _url(value: str, schemes: tuple[str, ...], written: str) -> str:
    try:
        parts = urlsplit(value)
        usable = parts.scheme in schemes and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port or an IPv6 address that is none
        usable = False
    if not usable or parts.query or parts.fragment or any(character.isspace() for character in value):
        raise refuse("bad_url", f"{shown(value)} is not a URL that can be used; write {written}")
    return value
