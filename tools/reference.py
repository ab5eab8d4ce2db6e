"""Writes the API reference from the CRDs, so that it can't say anything else than the API server does."""

from collections.abc import Iterator
from typing import Any

Schema = dict[str, Any]

_HEADER = """# API reference

Generated from the models in `operator/chatbot_operator/api/` by `make generate`; do not edit.

Unknown fields are refused by `kubectl apply` (strict field validation is its default;
other clients ask for it with `fieldValidation=Strict`).
"""


def render_reference(crds: list[Schema]) -> str:
    """Return the whole reference as Markdown."""
    return "\n".join([_HEADER, *(_render_kind(crd) for crd in crds)])


def _render_kind(crd: Schema) -> str:
    names, version = crd["spec"]["names"], crd["spec"]["versions"][0]
    root = version["schema"]["openAPIV3Schema"]
    short, categories = ", ".join(names["shortNames"]), ", ".join(names["categories"])
    identity = f"`{crd['spec']['group']}/{version['name']}`, short name `{short}`, category `{categories}`"
    lines = [f"## {names['kind']}", "", f"{root['description']} {identity}.", ""]
    lines += [f"- {rule['message']}" for rule in root.get("x-kubernetes-validations", [])]
    for part in ("spec", "status"):
        lines += ["", f"### {part}", ""]
        for path, node in _objects(part, root["properties"][part]):
            lines += _render_object(path, node)
    lines += ["", "### Columns of `kubectl get`", "", "| column | from | meaning |", "|---|---|---|"]
    for column in version["additionalPrinterColumns"]:
        wide = " (`-o wide`)" if column.get("priority") else ""
        lines.append(f"| {column['name']}{wide} | `{column['jsonPath']}` | {column['description']} |")
    return "\n".join(lines) + "\n"


def _objects(path: str, node: Schema) -> Iterator[tuple[str, Schema]]:
    """Yield every object below a node with its path, parents first."""
    if node.get("properties"):
        yield path, node
        for name, child in node["properties"].items():
            yield from _objects(f"{path}.{name}", child)
    elif "items" in node:
        yield from _objects(f"{path}[]", node["items"])


def _render_object(path: str, node: Schema) -> list[str]:
    lines = [
        f"#### `{path}`",
        "",
        node.get("description", ""),
        "",
        "| field | type | default | limits | meaning |",
        "|---|---|---|---|---|",
    ]
    required = node.get("required", [])
    for name, child in node["properties"].items():
        default = "**required**" if name in required else _default(child)
        lines.append(f"| `{name}` | {_type(child)} | {default} | {_limits(child)} | {_escape(child.get('description', ''))} |")
    lines += ["", *(f"- {_escape(rule['message'])}" for rule in node.get("x-kubernetes-validations", []))]
    return [*lines, ""]


def _type(node: Schema) -> str:
    if "items" in node:
        return f"list of {_type(node['items'])}"
    if "additionalProperties" in node:
        return f"map of {_type(node['additionalProperties'])}"
    return str(node.get("type", "any"))


def _default(node: Schema) -> str:
    return f"`{node['default']}`" if "default" in node and "properties" not in node else ""


def _limits(node: Schema) -> str:
    parts = []
    if "enum" in node:
        parts.append(", ".join(f"`{value}`" for value in node["enum"]))
    low, high = node.get("minimum"), node.get("maximum")
    if low is not None or high is not None:
        parts.append(f"{'' if low is None else low} to {'any' if high is None else high}")
    for key, text in (("maxLength", "characters"), ("maxItems", "entries"), ("maxProperties", "entries")):
        if key in node:
            parts.append(f"at most {node[key]} {text}")
    if "pattern" in node:
        parts.append(f"`{_escape(node['pattern'])}`")
    if "x-kubernetes-list-map-keys" in node:
        parts.append(f"unique {', '.join(node['x-kubernetes-list-map-keys'])}")
    return "; ".join(parts)


def _escape(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;") if "`" not in text else text.replace("|", "\\|")
