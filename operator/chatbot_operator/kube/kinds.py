"""Where each kind lives in the API: group, version, plural; known beforehand, so that no discovery request is ever made."""

from dataclasses import dataclass
from typing import Final

from chatbot_operator.constants import GROUP, VERSION


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of the API. `group` is empty for the core group."""

    kind: str
    group: str
    version: str
    plural: str
    namespaced: bool = True

    @property
    def api_version(self) -> str:
        """Return `group/version` as manifests write it."""
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, namespace: str = "", name: str = "", subresource: str = "") -> str:
        """Return the URL path of a collection, of an object, or of a subresource.

        Args:
            namespace: Empty for all namespaces or a cluster-scoped kind.
            name: Empty for the collection.
            subresource: For example `status`.
        """
        root = f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"
        parts = [root]
        if namespace and self.namespaced:
            parts.append(f"namespaces/{namespace}")
        parts.append(self.plural)
        parts += [part for part in (name, subresource) if part]
        return "/".join(parts)


DEPLOYMENT: Final = Kind("Deployment", "apps", "v1", "deployments")
STATEFUL_SET: Final = Kind("StatefulSet", "apps", "v1", "statefulsets")
JOB: Final = Kind("Job", "batch", "v1", "jobs")
SERVICE: Final = Kind("Service", "", "v1", "services")
SERVICE_ACCOUNT: Final = Kind("ServiceAccount", "", "v1", "serviceaccounts")
CLAIM: Final = Kind("PersistentVolumeClaim", "", "v1", "persistentvolumeclaims")
SECRET: Final = Kind("Secret", "", "v1", "secrets")
POD: Final = Kind("Pod", "", "v1", "pods")
DISRUPTION_BUDGET: Final = Kind("PodDisruptionBudget", "policy", "v1", "poddisruptionbudgets")
AUTOSCALER: Final = Kind("HorizontalPodAutoscaler", "autoscaling", "v2", "horizontalpodautoscalers")
NETWORK_POLICY: Final = Kind("NetworkPolicy", "networking.k8s.io", "v1", "networkpolicies")

INSTANCE: Final = Kind("ChatbotInstance", GROUP, VERSION, "chatbotinstances")
BACKUP: Final = Kind("ChatbotBackup", GROUP, VERSION, "chatbotbackups")
EVENT: Final = Kind("Event", "events.k8s.io", "v1", "events")
LEASE: Final = Kind("Lease", "coordination.k8s.io", "v1", "leases")
NAMESPACE: Final = Kind("Namespace", "", "v1", "namespaces", namespaced=False)
CRD: Final = Kind("CustomResourceDefinition", "apiextensions.k8s.io", "v1", "customresourcedefinitions", namespaced=False)

CHILD_KINDS: Final = (
    DEPLOYMENT,
    STATEFUL_SET,
    JOB,
    SERVICE,
    SERVICE_ACCOUNT,
    CLAIM,
    SECRET,
    POD,
    DISRUPTION_BUDGET,
    AUTOSCALER,
    NETWORK_POLICY,
)
"""What instances are made of: each is watched by one reflector. Jobs come before Pods, whose list must not be older."""

_BY_NAME: Final = {kind.kind: kind for kind in (*CHILD_KINDS, INSTANCE, BACKUP, EVENT, LEASE, NAMESPACE, CRD)}


def kind_of(name: str) -> Kind:
    """Return the registered kind of a manifest's `kind`.

    Raises:
        KeyError: The operator does not know the kind; a mistake in our own code.
    """
    return _BY_NAME[name]
