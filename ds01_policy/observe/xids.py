"""Errors that the driver reports to the kernel's log (Xids), since a given time.

Owns reading /dev/kmsg without waiting, and which of its lines are the driver's own. What an Xid means is not its.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from ds01_policy.model import Xid
from ds01_policy.observe.ports import SourceError

# "priority and facility,number,microseconds since boot,flags;text": Documentation/ABI/testing/dev-kmsg of Linux
_LINE = re.compile(rb"(?P<priority>[0-9]{1,4}),[0-9]+,(?P<us>[0-9]{1,18}),[^;]*;(?P<text>[^\n]*)")
_XID = re.compile(
    rb"NVRM: Xid \(PCI:(?P<bus>[0-9A-Fa-f]{4,8}:[0-9A-Fa-f]{2}:[0-9A-Fa-f]{2})[^)]*\): (?P<code>[0-9]{1,4}),"
)
_KERNEL = 0  # the facility; what others write into the log has another one
_RECORD = 8192  # bytes; a record is never longer
_MOST = 200_000  # records; the largest log buffer holds fewer


@dataclass(frozen=True, slots=True)
class KernelLog:
    """The kernel's log. An epilog's Xids."""

    path: Path = Path("/dev/kmsg")
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    uptime: Callable[[], float] = time.monotonic  # the log's own clock: it stands still while the host sleeps

    def since(self, at: datetime) -> tuple[Xid, ...]:
        """List the Xids from `at` on, in their order.

        Raises:
            SourceError: when the log cannot be read.

        """
        booted = self.now().timestamp() - self.uptime()
        found = []
        for record in self._records():
            line = _LINE.match(record)
            if line is None or int(line["priority"]) >> 3 != _KERNEL:
                continue
            xid = _XID.match(line["text"])
            when = datetime.fromtimestamp(booted + int(line["us"]) / 1e6, UTC)
            if xid is not None and when >= at:
                found.append(Xid(int(xid["code"]), _bus(xid["bus"].decode()), when))
        return tuple(found)

    def _records(self) -> Iterator[bytes]:
        try:
            log = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise SourceError(f"the kernel's log {self.path} cannot be read: {error.strerror}") from None
        try:
            for _ in range(_MOST):
                try:
                    record = os.read(log, _RECORD)  # one record each time
                except BlockingIOError:  # read to its end
                    return
                except BrokenPipeError:  # overwritten meanwhile; the next read goes on after it
                    continue
                if not record:
                    return
                yield record
        except OSError as error:
            raise SourceError(f"the kernel's log {self.path} cannot be read: {error.strerror}") from None
        finally:
            os.close(log)


def _bus(text: str) -> str:
    """Write `0000:07:00` as NVML does: `00000000:07:00`."""
    domain, _, rest = text.partition(":")
    return f"{domain:0>8}:{rest}".upper()
