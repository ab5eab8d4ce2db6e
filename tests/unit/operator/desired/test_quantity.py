"""Pure. Quantities are written as the API server stores them (`tests/controlplane` asks one)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatbot_operator.desired.quantity import amount, canonical, larger, mebibytes, smaller, to_bytes
from tests.support.quantities import KNOWN


@pytest.mark.parametrize(("text", "stored"), KNOWN)
def test_known_quantities(text: str, stored: str) -> None:
    assert canonical(text) == stored


QUANTITIES = st.builds(
    lambda whole, part, suffix: f"{whole}{part}{suffix}",
    st.integers(0, 9999),
    st.sampled_from(["", ".5", ".25", ".125"]),
    st.sampled_from(["", "m", "k", "M", "G", "Ki", "Mi", "Gi", "Ti"]),
)


@given(QUANTITIES)
def test_canonical_is_idempotent_and_keeps_the_value(text: str) -> None:
    once = canonical(text)
    assert canonical(once) == once
    assert abs(amount(once) - amount(text)) <= 1


@given(QUANTITIES, QUANTITIES)
def test_larger_and_smaller_are_one_of_both(one: str, other: str) -> None:
    most, least = larger(one, other), smaller(one, other)
    assert {most, least} <= {one, other}
    assert (amount(most), amount(least)) == (max(amount(one), amount(other)), min(amount(one), amount(other)))


def test_an_unknown_size_is_less_than_any() -> None:
    assert larger("", "1Gi") == larger("1Gi", "") == "1Gi"


def test_bytes() -> None:
    assert to_bytes("128Mi") == 134217728
    assert to_bytes("1.5k") == 1500
    assert mebibytes(1024) == "1Gi"
    assert mebibytes(160) == "160Mi"


@pytest.mark.parametrize("text", ["x", "Mi", "1Zi", ""])
def test_no_quantity(text: str) -> None:
    with pytest.raises(ValueError):
        canonical(text)
