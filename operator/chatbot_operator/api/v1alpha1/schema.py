"""What a CRD says beyond JSON Schema: CEL rules, list keys, and the identity of a kind. Read by the generator of `crds/`."""

from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel
from pydantic.config import JsonDict


@dataclass(frozen=True, slots=True)
class Rule:
    """One CEL rule of an object. `field` is the child that the refusal names, or empty for the object itself.

    Rules that compare with the old object belong on the parent: one on the field is not evaluated once the field is removed.
    """

    expression: str
    message: str
    field: str = ""

    def to_schema(self) -> JsonDict:
        """Return the form of `x-kubernetes-validations`."""
        path: JsonDict = {"fieldPath": f".{self.field}"} if self.field else {}
        return {"rule": self.expression, "message": self.message, **path}


def rules(*items: Rule) -> JsonDict:
    """Return `json_schema_extra` of a model with these rules."""
    return {"x-kubernetes-validations": [item.to_schema() for item in items]}


def list_map(*keys: str) -> JsonDict:
    """Return `json_schema_extra` of a list whose entries are told apart by these keys, which the API server keeps unique."""
    return {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": list(keys)}


def immutable(field: str, *, required: bool = False) -> Rule:
    """Return the rule that a field neither changes nor comes nor goes. `required`: the field always has a value."""
    same = f"self.{field} == oldSelf.{field}"
    if required:
        return Rule(same, f"{field} is immutable", field)
    return Rule(f"has(self.{field}) == has(oldSelf.{field}) && (!has(self.{field}) || {same})", f"{field} is immutable", field)


def grows(field: str) -> tuple[Rule, Rule]:
    """Return the rules that a quantity is positive and never shrinks."""
    return (
        Rule(f"quantity(self.{field}).isGreaterThan(quantity('0'))", f"{field} must be more than 0", field),
        Rule(f"quantity(self.{field}).compareTo(quantity(oldSelf.{field})) >= 0", f"{field} can only grow", field),
    )


def at_most(amount: str) -> Rule:
    """Return the rule that a request does not exceed the limit."""
    given = f"!has(self.requests) || !has(self.limits) || !has(self.requests.{amount}) || !has(self.limits.{amount})"
    within = f"quantity(self.requests.{amount}).compareTo(quantity(self.limits.{amount})) <= 0"
    return Rule(f"{given} || {within}", f"requests.{amount} must not exceed limits.{amount}", f"requests.{amount}")


def external_only(mode: str = "External") -> tuple[Rule, Rule]:
    """Return the rules that `external` is given with this mode, and only with it."""
    return (
        Rule(f"self.mode != '{mode}' || has(self.external)", f"external is required with mode {mode}", "external"),
        Rule(f"self.mode == '{mode}' || !has(self.external)", f"external is only for mode {mode}", "external"),
    )


@dataclass(frozen=True, slots=True)
class Column:
    """A column of `kubectl get`. `wide` shows it only with `-o wide`."""

    name: str
    path: str
    description: str
    type: str = "string"
    wide: bool = False


@dataclass(frozen=True, slots=True)
class Kind:
    """One custom resource: its names, models, columns and the rules on the whole object (which see `metadata.name`)."""

    name: str
    plural: str
    short_names: tuple[str, ...]
    description: str
    spec: type[BaseModel]
    status: type[BaseModel]
    columns: tuple[Column, ...]
    object_rules: tuple[Rule, ...] = ()

    def to_names(self) -> dict[str, Any]:
        """Return `spec.names` of the CRD."""
        return {
            "kind": self.name,
            "listKind": f"{self.name}List",
            "plural": self.plural,
            "singular": self.name.lower(),
            "shortNames": list(self.short_names),
            "categories": ["chatbot"],
        }
