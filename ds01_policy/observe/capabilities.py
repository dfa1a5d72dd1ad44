"""What the kernel lets this process do, beyond being root: a hardened unit's root may do little.

Owns reading /proc/self/status. Nothing here fails: what cannot be read is not allowed.
"""

from __future__ import annotations

from pathlib import Path

# The driver lets nobody else reset a GPU or switch its persistence mode. Its number: linux/capability.h
_SYS_ADMIN = 21


def may_reset(proc: Path = Path("/proc")) -> bool:
    """Whether this process has CAP_SYS_ADMIN in effect now."""
    try:
        lines = (proc / "self/status").read_text(encoding="utf-8", errors="replace").splitlines()
        effective = next(line.partition(":")[2] for line in lines if line.startswith("CapEff:"))
        return bool(int(effective, 16) >> _SYS_ADMIN & 1)
    except (OSError, ValueError, StopIteration):
        return False
