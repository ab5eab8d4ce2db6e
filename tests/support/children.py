"""One canonical manifest of each kind that instances are made of, for tests of `kube/` against a real API server."""

from collections.abc import Iterator
from typing import Any

Manifest = dict[str, Any]

INSTANCE = "bot"
INSTANCE_UID = "11111111-2222-3333-4444-555555555555"


def labels(instance: str = INSTANCE, uid: str = INSTANCE_UID, component: str = "app") -> dict[str, str]:
    """Return the labels that make an object a child."""
    return {"chatbotops.io/instance": instance, "chatbotops.io/instance-uid": uid, "chatbotops.io/component": component}


def meta(namespace: str, name: str, instance: str = INSTANCE) -> Manifest:
    """Return metadata with our labels and an annotation."""
    return {"name": name, "namespace": namespace, "labels": labels(instance), "annotations": {"chatbotops.io/note": "made by a test"}}


def pod_spec(image: str = "localhost/test:1") -> Manifest:
    """Return a pod spec that passes Pod Security `restricted` and uses each list type: keyed, set-like and atomic."""
    return {
        "automountServiceAccountToken": False,
        "securityContext": {"runAsNonRoot": True, "runAsUser": 10001, "seccompProfile": {"type": "RuntimeDefault"}},
        "terminationGracePeriodSeconds": 40,
        "tolerations": [{"key": "dedicated", "operator": "Equal", "value": "bots", "effect": "NoSchedule"}],
        "topologySpreadConstraints": [
            {
                "maxSkew": 1,
                "topologyKey": "kubernetes.io/hostname",
                "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": {"matchLabels": {"chatbotops.io/instance": INSTANCE}},
            }
        ],
        "containers": [
            {
                "name": "main",
                "image": image,
                "args": ["app"],
                "ports": [{"name": "http", "containerPort": 8003, "protocol": "TCP"}],
                "env": [
                    {"name": "PORT", "value": "8003"},
                    {"name": "POD_NAME", "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.name"}}},
                    {"name": "AFTER", "value": "$(PORT)"},
                ],
                "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"memory": "256Mi"}},
                "readinessProbe": {"httpGet": {"path": "/readyz", "port": "http"}, "periodSeconds": 5},
                "securityContext": {
                    "allowPrivilegeEscalation": False,
                    "readOnlyRootFilesystem": True,
                    "capabilities": {"drop": ["ALL"]},
                },
                "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}, {"name": "secret", "mountPath": "/run/secrets", "readOnly": True}],
            }
        ],
        "volumes": [
            {"name": "tmp", "emptyDir": {}},
            {"name": "secret", "secret": {"secretName": "s", "defaultMode": 288, "items": [{"key": "a", "path": "a"}]}},
        ],
    }


def deployment(namespace: str, name: str = "app", *, instance: str = INSTANCE, replicas: int | None = 1) -> Manifest:
    """Return a Deployment; without replicas where an autoscaler owns them."""
    spec: Manifest = {
        "selector": {"matchLabels": labels(instance)},
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
        "template": {"metadata": {"labels": labels(instance)}, "spec": pod_spec()},
    }
    if replicas is not None:
        spec["replicas"] = replicas
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": meta(namespace, name, instance), "spec": spec}


def stateful_set(namespace: str, name: str = "postgres") -> Manifest:
    """Return a StatefulSet."""
    return {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": meta(namespace, name),
        "spec": {
            "replicas": 1,
            "serviceName": "postgres",
            "podManagementPolicy": "Parallel",
            "selector": {"matchLabels": labels()},
            "template": {"metadata": {"labels": labels()}, "spec": pod_spec()},
        },
    }


def job(namespace: str, name: str = "migrate") -> Manifest:
    """Return a Job."""
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": meta(namespace, name),
        "spec": {"backoffLimit": 0, "template": {"metadata": {"labels": labels()}, "spec": {**pod_spec(), "restartPolicy": "Never"}}},
    }


def service(namespace: str, name: str = "app") -> Manifest:
    """Return a Service."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": meta(namespace, name),
        "spec": {"selector": labels(), "ports": [{"name": "http", "port": 80, "targetPort": "http", "protocol": "TCP"}]},
    }


def claim(namespace: str, name: str = "pgdata", storage_class: str = "standard") -> Manifest:
    """Return a PersistentVolumeClaim."""
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": meta(namespace, name),
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": "1Gi"}},
            "storageClassName": storage_class,
        },
    }


def secret(namespace: str, name: str = "passwords", value: str = "c2VjcmV0") -> Manifest:
    """Return a Secret; the value is base64."""
    return {"apiVersion": "v1", "kind": "Secret", "metadata": meta(namespace, name), "type": "Opaque", "data": {"password": value}}


def every_kind(namespace: str) -> Iterator[Manifest]:
    """Yield one manifest of each kind that we apply (pods are made by others)."""
    yield deployment(namespace)
    yield stateful_set(namespace)
    yield job(namespace)
    yield service(namespace)
    yield {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": meta(namespace, "app"), "automountServiceAccountToken": False}
    yield claim(namespace)
    yield secret(namespace)
    yield {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": meta(namespace, "app"),
        "spec": {"maxUnavailable": 1, "selector": {"matchLabels": labels()}},
    }
    yield {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": meta(namespace, "app"),
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "app"},
            "minReplicas": 2,
            "maxReplicas": 4,
            "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 70}}}],
        },
    }
    yield {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": meta(namespace, "app"),
        "spec": {
            "podSelector": {"matchLabels": labels()},
            "policyTypes": ["Ingress"],
            "ingress": [{"from": [{"podSelector": {"matchLabels": labels()}}], "ports": [{"port": 8003, "protocol": "TCP"}]}],
        },
    }
