"""The engine's own metrics: what a tick tells of itself, who holds which GPU, and what `watch` tells.

Owns what other parts may use of it; the server that `watch` needs is imported by `watch` alone.
"""

from ds01_policy.metrics.exposition import Family, text
from ds01_policy.metrics.families import GPU_LIMIT, LAST_SUCCESS, families, success
from ds01_policy.metrics.file import EVERYBODYS, NAME, OURS, last_success, write

__all__ = [
    "EVERYBODYS",
    "GPU_LIMIT",
    "LAST_SUCCESS",
    "NAME",
    "OURS",
    "Family",
    "families",
    "last_success",
    "success",
    "text",
    "write",
]
