"""Pure. Objects of two instances in one namespace never need the same name."""

import re
from itertools import permutations

import pytest

from chatbot_operator.api.v1alpha1.instance import AMBIGUOUS_NUMBER
from chatbot_operator.desired import names

INSTANCES = ("shop", "shop-web", "shop-web-x", "shop-web-web", "web", "shop-x")
FINE = ("x", "web", "1", "x-1", "redis-2", "postgresx", "xweb-1")
MEETS = {
    "postgres": "shop-web",
    "redis": "shop-web",
    "redis-data": "shop-web",
    "pgdata-g1": "shop-web",
    "x-postgres": "shop-web-x",
    "web-x": "shop-web",
    "x-web-1": "shop-web-x",
    "web-web": "shop-web",
}
"""Name of a number of instance `shop` -> instance of which an object would have the same name."""


def objects(instance: str, numbers: tuple[str, ...]) -> set[str]:
    """Return the names of StatefulSets and claims: those that the name of a number is part of, and those that it could meet."""
    fixed = {names.component_name(instance, component) for component in (names.POSTGRES, names.REDIS)}
    claims = {names.claim_name(instance, 1), names.redis_claim_name(instance)}
    return {*fixed, *claims, *(names.web_name(instance, number) for number in numbers)}


@pytest.mark.parametrize(("one", "other"), list(permutations(INSTANCES, 2)))
def test_instances_share_no_name(one: str, other: str) -> None:
    assert not objects(one, FINE) & objects(other, FINE)


@pytest.mark.parametrize(("number", "other"), MEETS.items())
def test_each_refused_name_would_meet_another_instance(number: str, other: str) -> None:
    assert re.search(AMBIGUOUS_NUMBER, number)
    assert objects("shop", (number,)) & objects(other, FINE)


@pytest.mark.parametrize("number", FINE)
def test_other_names_are_accepted(number: str) -> None:
    assert not re.search(AMBIGUOUS_NUMBER, number)
