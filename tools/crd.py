"""Turns the frozen models of a kind into a structural CustomResourceDefinition."""

from typing import Any

from pydantic import BaseModel

from chatbot_operator.api.v1alpha1.schema import Column, Kind
from chatbot_operator.constants import GROUP, VERSION

Schema = dict[str, Any]


def render_crd(kind: Kind) -> Schema:
    """Return the whole CustomResourceDefinition of one kind."""
    spec = _model_schema(kind.spec)
    status = _model_schema(kind.status, defaults=False)
    status["default"] = {"observedGeneration": -1}
    root: Schema = {
        "type": "object",
        "description": kind.description,
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object"},
            "spec": spec,
            "status": status,
        },
    }
    if kind.object_rules:
        root["x-kubernetes-validations"] = [rule.to_schema() for rule in kind.object_rules]
    version: Schema = {
        "name": VERSION,
        "served": True,
        "storage": True,
        "subresources": {"status": {}},
        "additionalPrinterColumns": [_column(column) for column in kind.columns],
        "schema": {"openAPIV3Schema": root},
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{kind.plural}.{GROUP}"},
        "spec": {"group": GROUP, "names": kind.to_names(), "scope": "Namespaced", "versions": [version]},
    }


def _column(column: Column) -> Schema:
    result: Schema = {"name": column.name, "type": column.type, "jsonPath": column.path, "description": column.description}
    if column.wide:
        result["priority"] = 1
    return result


def _model_schema(model: type[BaseModel], *, defaults: bool = True) -> Schema:
    raw = model.model_json_schema(by_alias=True, mode="validation")
    return _Converter(raw.get("$defs", {}), defaults).convert(raw)


class _Converter:
    """Rewrites JSON Schema without references, nulls, titles and closed objects: what the API server calls structural."""

    def __init__(self, definitions: dict[str, Schema], defaults: bool) -> None:
        self._definitions = definitions
        self._defaults = defaults

    def convert(self, node: Schema) -> Schema:
        """Return one node and all below it.

        Raises:
            ValueError: the model uses a union that a CRD can't say.
        """
        node = self._resolve(node)
        if {"anyOf", "oneOf", "allOf", "$ref"} & node.keys():
            raise ValueError(f"a CRD can't hold this: {node}")
        result: Schema = {}
        for key, value in node.items():
            if key == "properties":
                result[key] = {name: self._property(child, name in node.get("required", ())) for name, child in value.items()}
            elif key == "items":
                result[key] = self.convert(value)
            elif key == "additionalProperties":
                result |= self._additional(value)
            elif key == "description":
                result[key] = " ".join(value.split())
            elif key not in ("title", "$defs") and (key != "default" or (self._defaults and value is not None)):
                result[key] = value
        return result

    def _property(self, node: Schema, required: bool) -> Schema:
        """Convert a property; an object that is never absent gets the defaults inside it as its own.

        `{}` would do for the API server's defaulting, but rules are checked against the default as it stands.
        """
        result = self.convert(node)
        if self._defaults and not required and "anyOf" not in node and result.get("properties"):
            result["default"] = {name: child["default"] for name, child in result["properties"].items() if "default" in child}
        return result

    def _resolve(self, node: Schema) -> Schema:
        """Follow `$ref` and `X | None`; what stands beside the reference (description, default) wins over the target."""
        beside = {key: value for key, value in node.items() if key not in ("$ref", "anyOf")}
        if "$ref" in node:
            target = self._definitions[node["$ref"].removeprefix("#/$defs/")]
            return self._resolve({**target, **beside})
        choices = [choice for choice in node.get("anyOf", []) if choice.get("type") != "null"]
        return self._resolve({**choices[0], **beside}) if len(choices) == 1 else node

    def _additional(self, value: Schema | bool) -> Schema:
        if value is False:
            return {}
        if value is True:
            return {"x-kubernetes-preserve-unknown-fields": True}
        return {"additionalProperties": self.convert(value)}
