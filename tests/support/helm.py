"""Helm as tests use it: real programs of both major versions on the chart of this repository."""

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from testbed.tools import binary
from tests.support.cluster import ROOT, Cluster

CHART = ROOT / "helm/chatbot-operator"
PROGRAMS = ("helm", "helm3")


@dataclass(frozen=True)
class Helm:
    """One program, on the cluster with the administrator's rights."""

    program: Path
    kubeconfig: Path

    @classmethod
    def of(cls, cluster: Cluster, program: str) -> "Helm":
        """Build the program if need be."""
        return cls(binary(cluster.settings, program), cluster.admin)

    def run(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command that talks to the cluster."""
        command = [self.program, f"--kubeconfig={self.kubeconfig}", *arguments]
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=300)
        if check:
            assert done.returncode == 0, done.stderr or done.stdout
        return done

    def template(self, *options: str, release: str = "chatbot-operator", namespace: str = "operators") -> list[dict[str, Any]]:
        """Return the rendered manifests, hooks included."""
        # A Helm 3 built from its module believes in Kubernetes 1.20 unless told.
        done = self.run("template", release, str(CHART), f"--namespace={namespace}", "--kube-version=1.36.0", *options)
        return [manifest for manifest in yaml.safe_load_all(done.stdout) if manifest]

    def status(self, release: str, namespace: str) -> str:
        """Return the state of a release, such as `deployed`."""
        state: str = json.loads(self.run("status", release, f"--namespace={namespace}", "-o=json").stdout)["info"]["status"]
        return state


def is_hook(manifest: dict[str, Any]) -> bool:
    """Whether Helm runs the manifest as a hook instead of installing it."""
    return "helm.sh/hook" in manifest["metadata"].get("annotations", {})


def of_kind(manifests: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    """Return the manifests of one kind, hooks left out."""
    return [manifest for manifest in manifests if manifest["kind"] == kind and not is_hook(manifest)]
