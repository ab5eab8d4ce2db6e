"""What was measured, on which machine, against which aim: as JSON and as a table."""

import json
import os
import platform
import subprocess
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from testbed.tools import MODULES
from tests.component.servers import postgres_bin
from tests.support.cluster import ROOT


@dataclass(frozen=True)
class Row:
    """One number beside its aim. `met` None: there is no aim, it stands for comparison."""

    name: str
    value: str
    aim: str = ""
    met: bool | None = None


@dataclass
class Report:
    """Everything of one invocation."""

    started: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    machine: dict[str, Any] = field(default_factory=dict)
    runs: list[dict[str, Any]] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)

    def add(self, name: str, data: dict[str, Any]) -> None:
        """Keep the raw numbers of one measurement."""
        self.runs.append({"name": name, **data})
        print(f"    {name}: {json.dumps({key: value for key, value in data.items() if not isinstance(value, dict)})}", flush=True)

    def compare(self, name: str, value: float, unit: str, most: float | None = None, least: float | None = None) -> None:
        """Add a row whose aim is a bound."""
        aim = f"<= {most:g} {unit}" if most is not None else f">= {least:g} {unit}" if least is not None else ""
        met = value <= most if most is not None else value >= least if least is not None else None
        self.rows.append(Row(name, f"{value:g} {unit}".strip(), aim.strip(), met))

    def table(self) -> str:
        """Return the rows as Markdown."""
        lines = ["| what | measured | aim | met |", "|---|---|---|---|"]
        words = {True: "yes", False: "**no**", None: ""}
        return "\n".join([*lines, *(f"| {row.name} | {row.value} | {row.aim} | {words[row.met]} |" for row in self.rows)])

    def write(self, directory: Path) -> Path:
        """Write `report.json` and `report.md`; return the directory."""
        directory.mkdir(parents=True, exist_ok=True)
        content = {"started": self.started, "machine": self.machine, "runs": self.runs, "rows": [vars(row) for row in self.rows]}
        (directory / "report.json").write_text(json.dumps(content, indent=1) + "\n")
        facts = "\n".join(f"- {key}: {value}" for key, value in self.machine.items())
        (directory / "report.md").write_text(f"# Benchmark of {self.started}\n\n{facts}\n\n{self.table()}\n")
        return directory


PACKAGES = ("kopf", "kubernetes", "aiohttp", "pydantic", "asyncpg", "sqlalchemy", "uvicorn", "uvloop", "fastapi")
"""Libraries of the operator and the runtime that their speed hangs on."""
MODULES_OF_CLUSTER = {"kubernetes": "k8s.io/kubernetes", "etcd": "go.etcd.io/etcd/server/v3", "kwok": "sigs.k8s.io/kwok"}
"""Family of the test bed's programs to the module whose pin is their version."""


def machine() -> dict[str, Any]:
    """Describe what the numbers depend on."""
    model = next((line.partition(":")[2].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line), "?")
    memory = Path("/proc/meminfo").read_text().split()[1]
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "memory_gib": round(int(memory) / 1024**2, 1),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "cluster": ", ".join(f"{family} {pinned(family, module)}" for family, module in MODULES_OF_CLUSTER.items()),
        "postgres": _output([str(postgres_bin() / "postgres"), "--version"]),
        "redis": _output(["redis-server", "--version"]),
        **{name: metadata.version(name) for name in PACKAGES},
        "commit": commit(ROOT),
        "load_before": os.getloadavg()[0],
    }


def commit(root: Path) -> str:
    """Name the commit that is measured. Any change or new file anywhere counts: the test bed and the chart decide numbers too."""
    head = _output(["git", "rev-parse", "HEAD"], root)
    return head + (" with changes" if _output(["git", "status", "--porcelain"], root) else "")


def pinned(family: str, module: str) -> str:
    """Return the version of a module that the test bed builds a family of programs from."""
    lines = (MODULES / family / "go.mod").read_text().splitlines()
    words = (line.removeprefix("require ").split() for line in lines)
    return next(found[1] for found in words if len(found) > 1 and found[0] == module)


def _output(command: list[str], cwd: Path = ROOT) -> str:
    """Return what a program says; there is no report without it."""
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=True).stdout.strip()
