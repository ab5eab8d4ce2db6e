"""Reads the tables of docs/runtime-contract.md, so that tests hold code and images to what the page says."""

import re
from dataclasses import dataclass
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "runtime-contract.md"
LONG_RUNNING = ("app", "scheduler", "worker-web")
_CODE = re.compile(r"`([^`]+)`")


@dataclass(frozen=True, slots=True)
class MetricRow:
    """One row of the table of metrics; `name` with its prefix, `elected` for what only one of several schedulers exposes."""

    name: str
    kind: str
    roles: tuple[str, ...]
    elected: bool
    labels: tuple[str, ...]


def _rows(section: str) -> list[list[str]]:
    """Return the cells of all table rows of a section, without headings."""
    text = PAGE.read_text().split(f"\n## {section}\n")[1].split("\n## ")[0]
    lines = [line for line in text.splitlines() if line.startswith("| `")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def environment() -> list[str]:
    """Return the names of all environment variables, as often as the tables have them."""
    return [name for row in _rows("Environment") for name in _CODE.findall(row[0])]


def metrics() -> list[MetricRow]:
    """Return the table of metrics."""
    found = []
    for name, kind, roles, labels in _rows("Metrics"):
        named = LONG_RUNNING if roles == "all" else tuple(_CODE.findall(roles))
        found.append(MetricRow("chatbot_" + name.strip("`"), kind, named, roles.endswith("*"), tuple(_CODE.findall(labels))))
    return found
