"""What `desired` renders: stages in dependency order, each with the gate that opens the next one."""

from collections.abc import Mapping
from dataclasses import dataclass

from chatbot_operator.model.objects import Manifest, ObjectKey


@dataclass(frozen=True, slots=True)
class GeneratedSecret:
    """A Secret that is created once with random values and never changed by us.

    `values` maps a key to how it is made: `password` (32 characters), `key` (64 hex digits), `literal:<text>`, or `age-identity` and
    `age-recipient`, the two halves of one age key.
    """

    name: str
    component: str
    values: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Use:
    """One key of a Secret as a component reads it: mounted as the file `file`, named by the variable `variable` (may be empty)."""

    secret: str
    key: str
    file: str = ""
    variable: str = ""


@dataclass(frozen=True, slots=True)
class Stage:
    """One component: the objects to apply, and what must be ready before a later stage that needs it is made.

    `gate` names the objects whose health opens the stages that list this one in `needs`. `once` objects (Jobs) are created
    but never changed afterwards.
    """

    name: str
    manifests: tuple[Manifest, ...]
    needs: tuple[str, ...] = ()
    gate: tuple[ObjectKey, ...] = ()
    once: frozenset[ObjectKey] = frozenset()


@dataclass(frozen=True, slots=True)
class Plan:
    """The whole desired state of one instance."""

    stages: tuple[Stage, ...]
    untouched: frozenset[str] = frozenset()
    """Components that are held: their objects are neither made nor changed nor pruned."""
