"""Kleene's truth tables, written out."""

from __future__ import annotations

import pytest

from ds01_policy.logic import Truth, all_, any_, not_, truth_of

T, F, U = Truth.TRUE, Truth.FALSE, Truth.UNKNOWN


@pytest.mark.parametrize(
    ("left", "right", "both", "either"),
    [(T, T, T, T), (T, F, F, T), (T, U, U, T), (F, F, F, F), (F, U, F, U), (U, U, U, U)],
)
def test_all_and_any_follow_the_table_in_both_orders(left: Truth, right: Truth, both: Truth, either: Truth) -> None:
    """One FALSE decides a conjunction, one TRUE a disjunction; else one UNKNOWN leaves it open."""
    assert all_([left, right]) is all_([right, left]) is both
    assert any_([left, right]) is any_([right, left]) is either


@pytest.mark.parametrize(("term", "negated"), [(T, F), (F, T), (U, U)])
def test_not(term: Truth, negated: Truth) -> None:
    """The negation of what is unknown is unknown."""
    assert not_(term) is negated


def test_nothing_proves_nothing() -> None:
    """A condition none of whose clauses applies holds for nobody."""
    assert all_([]) is U
    assert any_([]) is U


def test_a_truth_is_no_boolean() -> None:
    """`if truth:` would turn UNKNOWN into an answer."""
    with pytest.raises(TypeError, match="not a bool"):
        bool(U)
    assert [truth_of(known) for known in (True, False)] == [T, F]
