"""Which container a person means, by what is there and what is remembered."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ds01_policy.cli import by_hand
from ds01_policy.ledger import EndedLife, Ledger
from ds01_policy.model import Container, GpuClaim, GpuRef, State

OLD, NEW, OTHER = "a1" * 32, "a2" * 32, "b2" * 32
AT = datetime(2026, 3, 2, 3, 31, tzinfo=UTC)


def life(container: str, name: str = "train", hours: int = 0) -> EndedLife:
    started = AT - timedelta(hours=hours)
    return EndedLife(container, name, "alice", started, AT, (GpuRef("GPU-aaaa"),), "")


@pytest.mark.parametrize(
    ("there", "lives", "text", "meant"),
    [
        pytest.param([OTHER], [], "anything", OTHER, id="the one that Docker has under it"),
        pytest.param([], [life(NEW), life(OLD)], "train", NEW, id="the newest that was called so"),
        pytest.param([], [life(NEW, "x"), life(OLD)], "train", OLD, id="the one that was called so"),
        pytest.param([OTHER], [life(NEW)], "train", OTHER, id="what is there before what was"),
        pytest.param([OTHER], [life(OLD)], OLD, OLD, id="a whole id above all"),
        pytest.param([], [life(OLD)], "a1a1", OLD, id="the beginning of an id"),
    ],
)
def test_which_container_is_meant(there: list[str], lives: list[EndedLife], text: str, meant: str) -> None:
    """Nobody should have to look an id up."""
    assert by_hand._meant(there, lives, text) == meant  # noqa: SLF001


@pytest.mark.parametrize(
    ("there", "lives", "words"),
    [
        pytest.param([OLD, NEW], [], "'a' could be any of a1a1a1a1a1a1, a2a2a2a2a2a2", id="two that are there"),
        pytest.param([], [life(OLD, "x"), life(NEW, "y")], "could be any of", id="two that were"),
        pytest.param([], [], "no container is called 'a'", id="nobody"),
    ],
)
def test_what_could_be_anybody_is_refused(
    capsys: pytest.CaptureFixture[str], there: list[str], lives: list[EndedLife], words: str
) -> None:
    """Exit code 2."""
    with pytest.raises(SystemExit) as ended:
        by_hand._meant(there, lives, "a")  # noqa: SLF001
    assert ended.value.code == 2
    assert words in capsys.readouterr().err


def test_the_ledger_finds_by_name_and_by_the_beginning_of_an_id(tmp_path: Path) -> None:
    """The newest life of each, whatever stands in a name."""
    claim = GpuClaim(wants=True, refs=(GpuRef("GPU-aaaa", 3),), via="--gpus")
    first = Container(OLD, "train", "i", State.RUNNING, AT, AT - timedelta(hours=2), gpus=claim, owner="alice")
    with closing(Ledger.open(tmp_path / "ledger.db")) as ledger:
        ledger.remember(first, AT - timedelta(hours=1))
        ledger.remember(replace(first, started_at=AT - timedelta(minutes=5)), AT)
        ledger.remember(replace(first, id=OTHER, name="50%_x", started_at=AT - timedelta(hours=9)), AT)
        (found,) = ledger.named("train")
        assert (found.container, found.owner, found.gpus) == (OLD, "alice", (GpuRef("GPU-aaaa", 3),))
        assert found.started_at == AT - timedelta(minutes=5)
        assert [one.container for one in ledger.named("a1")] == [OLD]
        assert [one.container for one in ledger.named("50%_x")] == [OTHER]
        assert ledger.named("%") == ledger.named("trai") == ledger.named("' OR 1=1 --") == []
