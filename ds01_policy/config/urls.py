"""URLs of Docker and Prometheus in settings.yaml.

Owns which ones can be used. Opens none.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from ds01_policy.config.scalars import refuse, shown


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


def _url(value: str, schemes: tuple[str, ...], written: str) -> str:
    try:
        parts = urlsplit(value)
        usable = parts.scheme in schemes and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port or an IPv6 address that is none
        usable = False
    if not usable or parts.query or parts.fragment or any(character.isspace() for character in value):
        raise refuse("bad_url", f"{shown(value)} is not a URL that can be used; write {written}")
    return value
