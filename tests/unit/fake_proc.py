"""A /proc of a test's own: processes with the files that are read of them, of the shape of proc(5)."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

BOOTED = 1_772_400_000  # 2026-03-01 21:20 UTC


@dataclass(frozen=True)
class FakeProc:
    root: Path

    def __post_init__(self) -> None:
        self.root.mkdir(exist_ok=True)
        (self.root / "stat").write_text(f"cpu  1 2 3\nintr 5\nbtime {BOOTED}\nprocesses 7\n")

    def add(
        self,
        pid: int,
        *,
        name: str = "python3",
        uid: int = 1000,
        ticks: int = 500,
        state: str = "S",
        cgroup: str | None = "0::/\n",
        files: tuple[str, ...] = (),
        arguments: tuple[str, ...] = ("python3",),
    ) -> Path:
        folder = self.root / str(pid)
        (folder / "fd").mkdir(parents=True, exist_ok=True)
        rest = " ".join(["1", "1", "1", "0", "-1", "4194304", *["0"] * 12, str(ticks), *["0"] * 30])
        (folder / "stat").write_text(f"{pid} ({name}) {state} {rest}\n")
        (folder / "status").write_text(f"Name:\t{name[:15]}\nState:\t{state}\nUid:\t{uid + 1}\t{uid}\t0\t0\n")
        (folder / "cmdline").write_bytes(b"".join(os.fsencode(each) + b"\0" for each in arguments))
        if cgroup is not None:
            (folder / "cgroup").write_text(cgroup)
        for number, target in enumerate(files):
            (folder / "fd" / str(number)).symlink_to(target)
        return folder
