"""GPUs that the driver counts and cannot open: lost, or not answering.

Owns how such a GPU stands in the inventory. Asks nobody.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ds01_policy.model import Gpu
from ds01_policy.text import plain

if TYPE_CHECKING:
    from collections.abc import Iterable


@dataclass(frozen=True, slots=True)
class Unreadable:
    """One of them: where it is, and what the driver said."""

    why: str
    pci_bus_id: str = ""  # as far as known
    index: int | None = None

    @property
    def where(self) -> str:
        """What people call it: its PCI bus id, or its index."""
        return self.pci_bus_id or ("a GPU" if self.index is None else f"GPU {self.index}")

    def __str__(self) -> str:
        """Say it in words, for a note."""
        return f"{self.where} cannot be read: {plain(self.why, 160)}"


def stand_in(index: int, unreadable: Unreadable) -> Gpu:
    """Make a GPU that joins with no metric: who may use it, as with `--gpus all`, must not be judged by the others."""
    return Gpu(f"lost:{unreadable.pci_bus_id or index}", index, unreadable.pci_bus_id)


def with_stand_ins(gpus: Iterable[Gpu], unreadable: Iterable[Unreadable]) -> tuple[Gpu, ...]:
    """Add the unreadable ones at the indexes that are left, and order all by index."""
    every = list(gpus)
    taken = {gpu.index for gpu in every}
    for one in unreadable:
        index = one.index
        if index is None or index in taken:
            index = next(number for number in range(len(taken) + 1) if number not in taken)
        taken.add(index)
        every.append(stand_in(index, one))
    return tuple(sorted(every, key=lambda gpu: gpu.index))
