"""A driver's library for the program under test: the stand-in that the unit tests use, with a health to be changed.

Owns its building and the variables that put it in the loader's way. What it shows stands at its own head.
"""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from rig import parts

SOURCE = Path(__file__).parents[2] / "unit" / "nvml_stub.c"
FIRST, SECOND = (f"GPU-00000000-1111-4000-8000-00000000000{index}" for index in range(2))


@dataclass(frozen=True, slots=True)
class Nvml:
    """Two GPUs without MIG and NVLink, each as its `health` says."""

    folder: Path

    @classmethod
    def build(cls, folder: Path) -> Nvml:
        """Compile it. Skips the test, or fails it, where there is no compiler."""
        compiler = next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None)
        if compiler is None:
            parts.missing("no C compiler (cc, gcc, clang) to build the stand-in for libnvidia-ml.so.1 with")
        folder.mkdir()
        library = str(folder / "libnvidia-ml.so.1")
        flags = ("-std=c11", "-D_DEFAULT_SOURCE", "-shared", "-fPIC")
        subprocess.run((compiler, *flags, str(SOURCE), "-o", library), check=True, timeout=180)
        return cls(folder)

    @property
    def environment(self) -> dict[str, str]:
        """What a program needs to find it."""
        told = {"NVML_STUB_GPUS": "2", "NVML_STUB_HEALTH": f"@{self.health}"}
        return {"LD_LIBRARY_PATH": str(self.folder), **told}

    @property
    def health(self) -> Path:
        """The file that says how the GPUs are, as NVML_STUB_HEALTH does; read anew at each question."""
        return self.folder / "health"
