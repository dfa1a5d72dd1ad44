"""PURE: whether an image reference is meant by a pattern, wherever a policy file names images.

Owns what of a reference counts. Asks no registry: two names of one image are two images.
"""

from __future__ import annotations

import re
from fnmatch import fnmatchcase

_DOCKER_HUB = re.compile(r"\A(?:index\.)?docker\.io/")


def image_meant(image: str, pattern: str) -> bool:
    """Whether a rule's pattern means an image: the reference as Docker shows it, or what `image_fits` makes of it.

    Trust is given by the latter alone: `*/redis` must not reach an image of Docker Hub that is merely spelled out.
    """
    return fnmatchcase(image, pattern) or image_fits(image, pattern)


def image_fits(image: str, pattern: str) -> bool:
    """Match an image reference as written, without its digest, and without its tag.

    Docker Hub's own name is dropped, unless the pattern spells it out: `docker.io/prom/prometheus` is
    `prom/prometheus`, but `registry.example/prom/prometheus` is somebody else's.
    """
    whole = _DOCKER_HUB.sub("", image).removeprefix("library/")
    first, slash, _ = whole.partition("/")
    if pattern.startswith("docker.io/"):
        if slash and (first == "localhost" or "." in first or ":" in first):  # how Docker tells a registry
            return False
        whole = f"docker.io/{whole if slash else f'library/{whole}'}"
    undigested = whole.partition("@")[0]
    path, slash, last = undigested.rpartition("/")
    return any(fnmatchcase(name, pattern) for name in (whole, undigested, path + slash + last.partition(":")[0]))
