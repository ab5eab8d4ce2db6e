"""Kubernetes quantities as the API server stores them, so that a rendered manifest equals the live one (`0.5` is stored as `500m`)."""

from fractions import Fraction
from functools import lru_cache
from typing import Final

_BINARY: Final = {"Ki": 1, "Mi": 2, "Gi": 3, "Ti": 4, "Pi": 5, "Ei": 6}
_DECIMAL: Final = {"m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_DECIMAL_SUFFIX: Final = {exponent: suffix for suffix, exponent in _DECIMAL.items()}
_BINARY_SUFFIX: Final = {power: suffix for suffix, power in _BINARY.items()}


@lru_cache(maxsize=4096)
def amount(text: str) -> Fraction:
    """Return the value of a quantity: bytes for memory, cores for CPU.

    Raises:
        ValueError: The text is no quantity.
    """
    if text[-2:] in _BINARY:
        return Fraction(text[:-2]) * Fraction(1024 ** _BINARY[text[-2:]])
    suffix = text[-1] if text and text[-1] in _DECIMAL else ""
    exponent = _DECIMAL[suffix]
    unit = Fraction(10**exponent) if exponent >= 0 else Fraction(1, 10**-exponent)
    return Fraction(text[: len(text) - len(suffix)]) * unit


@lru_cache(maxsize=4096)
def canonical(text: str) -> str:
    """Return a quantity in the form that the API server stores (apimachinery, `resource.Quantity.CanonicalizeBytes`).

    A binary amount that needs no binary suffix is written as a decimal one, because that is how it comes back when it is read again.

    Raises:
        ValueError: The text is no quantity.
    """
    value = amount(text)
    if text[-2:] in _BINARY and value > 0 and value % 1024 == 0:
        return _binary(value.numerator)
    return _decimal(value)


def to_bytes(text: str) -> int:
    """Return a quantity of memory in whole bytes, rounded down.

    Raises:
        ValueError: The text is no quantity.
    """
    return int(amount(text))


def mebibytes(count: int) -> str:
    """Return a number of mebibytes as a canonical quantity."""
    return _binary(count * 1024 * 1024)


def larger(one: str, other: str) -> str:
    """Return the larger of two quantities; an empty text is less than anything."""
    if not one or not other:
        return one or other
    return one if amount(one) >= amount(other) else other


def smaller(one: str, other: str) -> str:
    """Return the smaller of two quantities."""
    return one if amount(one) <= amount(other) else other


def _binary(value: int) -> str:
    power = 0
    while value and value % 1024 == 0 and power < max(_BINARY_SUFFIX):
        value //= 1024
        power += 1
    return f"{value}{_BINARY_SUFFIX.get(power, '')}"


def _decimal(value: Fraction) -> str:
    """Return the shortest mantissa with a suffix; what is finer than a thousandth is rounded up, as the API server does with resources."""
    thousandths = value * 1000
    mantissa, exponent = -(-thousandths.numerator // thousandths.denominator), -3
    while mantissa and mantissa % 1000 == 0 and exponent < max(_DECIMAL_SUFFIX):
        mantissa //= 1000
        exponent += 3
    return f"{mantissa}{_DECIMAL_SUFFIX[exponent]}" if mantissa else "0"
