"""Runs one program for a bounded time and keeps a bounded amount of what it prints.

Owns starting, reading, killing and, where even SIGKILL does not help, giving up on it. No shell; knows no program.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ds01_policy.observe.ports import SourceError
from ds01_policy.text import plain
from ds01_policy.units import format_duration

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import timedelta

OUTPUT_LIMIT = 16 * 2**20  # bytes of standard output; more is an error
ERRORS_KEPT = 64 * 2**10  # bytes of standard error; the rest is read and dropped
LAST_WAIT_S = 1.0  # for a killed program to go

# Killed and still there: in D state, inside the kernel. Held so that it is reaped should it ever come back, and so
# that it is not joined by another one each time somebody asks. By program.
stuck: dict[str, subprocess.Popen[bytes]] = {}


class NotInstalled(SourceError):
    """There is no such program."""


@dataclass(frozen=True, slots=True)
class Finished:
    """How a program ended, and what it printed. Bytes that are not UTF-8 became U+FFFD."""

    code: int  # negative: killed by that signal
    out: str
    err: str


def run(argv: Sequence[str], *, timeout: timedelta, env: Mapping[str, str], name: str) -> Finished:
    """Run a program to its end, in a session of its own. `name` is what messages call it.

    Returns within `timeout` and LAST_WAIT_S, whatever the program and its children do.

    Raises:
        NotInstalled: when there is no such program.
        SourceError: when it cannot be started, takes too long, or prints more than OUTPUT_LIMIT.

    """
    _refuse_beside_stuck(argv[0], name)
    deadline = time.monotonic() + timeout.total_seconds()
    process = _start(argv, env, name)
    ended = went = False
    slow = None
    try:
        out, err = _drain(process, deadline, name)
        code = process.wait(max(0.0, deadline - time.monotonic()))
        ended = True
    except (TimeoutError, subprocess.TimeoutExpired):
        slow = f"{name} did not answer within {format_duration(timeout)}"
    finally:
        went = ended or _kill(process, argv[0])
        _close(process)
    if slow is None:
        return Finished(code, out.decode(errors="replace"), err.decode(errors="replace"))
    if went:
        raise SourceError(f"{slow} and was killed")
    raise SourceError(f"{slow} and cannot be killed (pid {process.pid}): look for NVRM and Xid in dmesg")


def _start(argv: Sequence[str], env: Mapping[str, str], name: str) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(  # noqa: S603  an argument vector from settings.yaml, which root owns; no shell
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=env,
            start_new_session=True,
        )
    except FileNotFoundError:
        raise NotInstalled(f"{name} is not installed: there is no `{plain(argv[0])}`") from None
    except OSError as error:
        raise SourceError(f"{name} could not be started: {error.strerror or error}") from None


def _drain(process: subprocess.Popen[bytes], deadline: float, name: str) -> tuple[bytes, bytes]:
    """Read both pipes to their ends. Raises TimeoutError."""
    out, err = bytearray(), bytearray()
    with selectors.DefaultSelector() as selector:
        for pipe, kept in ((process.stdout, out), (process.stderr, err)):
            if pipe is not None:
                selector.register(pipe, selectors.EVENT_READ, kept)
        while selector.get_map():
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError
            for key, _ in selector.select(left):
                chunk = os.read(key.fd, 2**16)
                if not chunk:
                    selector.unregister(key.fileobj)
                key.data.extend(chunk)
            del err[ERRORS_KEPT:]
            if len(out) > OUTPUT_LIMIT:
                raise SourceError(f"{name} printed more than {OUTPUT_LIMIT // 2**20} MiB and was stopped")
    return bytes(out), bytes(err)


def _kill(process: subprocess.Popen[bytes], program: str) -> bool:
    """Kill it with all its children; say whether it went."""
    if process.returncode is None:  # else it was reaped, and its number may be somebody else's
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    try:
        process.wait(LAST_WAIT_S)
    except subprocess.TimeoutExpired:
        stuck[program] = process
        return False
    return True


def _refuse_beside_stuck(program: str, name: str) -> None:
    process = stuck.get(program)
    if process is None:
        return
    if process.poll() is None:
        raise SourceError(f"{name} was not started: an earlier one (pid {process.pid}) still hangs in the driver")
    del stuck[program]


def _close(process: subprocess.Popen[bytes]) -> None:
    for pipe in (process.stdout, process.stderr):
        if pipe is not None:
            pipe.close()
