"""GPUs that cannot be read keep their places among those that can."""

from __future__ import annotations

import pytest

from ds01_policy.model import Gpu
from ds01_policy.observe.unreadable import Unreadable, with_stand_ins

READ = (Gpu("GPU-a", 0), Gpu("GPU-d", 3))


@pytest.mark.parametrize(
    ("unreadable", "uuids"),
    [
        pytest.param([], ["GPU-a", "GPU-d"], id="none"),
        pytest.param([Unreadable("x", index=2)], ["GPU-a", "lost:2", "GPU-d"], id="its index is known"),
        pytest.param([Unreadable("x", "00000000:07:00.0")], ["GPU-a", "lost:00000000:07:00.0", "GPU-d"], id="its bus"),
        pytest.param([Unreadable("x")] * 3, ["GPU-a", "lost:1", "lost:2", "GPU-d", "lost:4"], id="nothing is known"),
        pytest.param([Unreadable("x", index=3)], ["GPU-a", "lost:1", "GPU-d"], id="its index is somebody else's"),
    ],
)
def test_each_takes_its_index_or_one_that_is_left(unreadable: list[Unreadable], uuids: list[str]) -> None:
    """Indexes stay as the driver counts them, and no two GPUs share a name or an index."""
    found = with_stand_ins(READ, unreadable)
    assert [gpu.uuid for gpu in found] == uuids
    assert len({gpu.index for gpu in found}) == len(found)
    assert {gpu.uuid: gpu.index for gpu in found}["GPU-d"] == 3


def test_what_the_driver_says_about_it_is_shown_as_text() -> None:
    """A note can go to a terminal."""
    assert str(Unreadable("lost\x1b[31m", index=4)) == r"GPU 4 cannot be read: lost\x1b[31m"
