"""Backups on real pods: stored, proven, restorable by hand with what a person has, and found out when somebody changes a byte."""

import json
from typing import Any

import pytest

from testbed.demo import find_condition
from tests.support.site import Site


def _pod(site: Site, image: str, script: str) -> dict[str, Any]:
    """Return a pod that runs a script beside the volume of backups and the key."""
    container = {
        "name": "by-hand",
        "image": image,
        "command": ["bash", "-c", script],
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        "volumeMounts": [{"name": "backups", "mountPath": "/backups"}, {"name": "key", "mountPath": "/key", "readOnly": True}],
    }
    security = {"runAsNonRoot": True, "runAsUser": 10002, "fsGroup": 10002, "seccompProfile": {"type": "RuntimeDefault"}}
    volumes = [
        {"name": "backups", "persistentVolumeClaim": {"claimName": f"{site.name}-backups"}},
        {"name": "key", "secret": {"secretName": f"{site.name}-backup-key"}},
    ]
    spec = {"restartPolicy": "Never", "securityContext": security, "containers": [container], "volumes": volumes}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "by-hand"}, "spec": spec}


def _by_hand(site: Site, script: str) -> str:
    """Run a script beside the volume of backups and return what it printed."""
    image = site.list("StatefulSet", component="postgres")[0]["spec"]["template"]["spec"]["containers"][0]["image"]
    site.kubectl("apply", "-n", site.namespace, "-f", "-", stdin=json.dumps(_pod(site, image, script)))
    site.kubectl("wait", "-n", site.namespace, "pod/by-hand", "--for=jsonpath={.status.phase}=Succeeded", "--timeout=60s")
    told = site.kubectl("logs", "-n", site.namespace, "by-hand")
    site.kubectl("delete", "-n", site.namespace, "pod/by-hand", "--wait=true")
    return told


def _back_up(site: Site, name: str) -> None:
    body = {
        "apiVersion": "chatbotops.io/v1alpha1",
        "kind": "ChatbotBackup",
        "metadata": {"name": name},
        "spec": {"instanceRef": {"name": site.name}},
    }
    site.kubectl("apply", "-n", site.namespace, "-f", "-", stdin=json.dumps(body))


def _backup(site: Site, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(site.kubectl("get", "-n", site.namespace, "chatbotbackup", name, "-o", "json"))
    return found


@pytest.fixture
def saved(site: Site) -> Site:
    """The quickstart chatbot with a place for backups."""
    site.patch({"backup": {}})
    site.wait_ready()
    return site


def test_a_backup_is_proven_and_holds_what_the_database_held(saved: Site) -> None:
    _back_up(saved, "first")
    saved.kubectl("wait", "-n", saved.namespace, "chatbotbackup/first", "--for=condition=Verified", "--timeout=180s")
    status = _backup(saved, "first")["status"]
    archive = status["archive"]
    assert archive["postgresVersion"].startswith("17.")
    assert archive["systemIdentifier"] == saved.instance()["status"]["database"]["systemIdentifier"]
    assert archive["schemaRevision"] == saved.instance()["status"]["release"]["schemaRevision"]
    rows = {table["name"]: table["rows"] for table in archive["tables"]}
    assert rows["public.schema_compat"] == 1
    opened = f"age -d -i /key/identity /backups/{archive['objectKey']}/archive.age | pg_restore -f - --data-only -t schema_compat"
    assert "COPY public.schema_compat" in _by_hand(saved, opened)
    columns = saved.kubectl("get", "-n", saved.namespace, "cbb", "first").split()
    assert {"first", saved.name, "Logical", "True", "ReadCompletely"} <= set(columns)


def test_a_changed_byte_is_found_by_the_next_proof(saved: Site) -> None:
    _back_up(saved, "changed")
    saved.kubectl("wait", "-n", saved.namespace, "chatbotbackup/changed", "--for=condition=Verified", "--timeout=180s")
    where = f"/backups/{_backup(saved, 'changed')['status']['archive']['objectKey']}"
    _by_hand(saved, f"printf X | dd of={where}/archive.age bs=1 seek=300 conv=notrunc status=none")
    # The status of a proof is for ever; another proof is another Job on the same files.
    job = next(
        job for job in saved.list("Job", component="backup-verify") if job["metadata"]["labels"]["chatbotops.io/backup"] == "changed"
    )
    again = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "prove-again"}, "spec": _again(job)}
    saved.kubectl("apply", "-n", saved.namespace, "-f", "-", stdin=json.dumps(again))
    saved.kubectl("wait", "-n", saved.namespace, "job/prove-again", "--for=condition=Failed", "--timeout=90s")
    told = saved.kubectl("logs", "-n", saved.namespace, "job/prove-again")
    assert json.loads(told.strip().splitlines()[-1])["reason"] == "HashMismatch"
    saved.kubectl("delete", "-n", saved.namespace, "job/prove-again")


def _again(job: dict[str, Any]) -> dict[str, Any]:
    spec = job["spec"]
    template = {"metadata": {}, "spec": spec["template"]["spec"]}
    return {"backoffLimit": 0, "template": template}


def test_no_secret_is_seen_in_what_people_can_read(saved: Site) -> None:
    decoded = saved.secret(f"{saved.name}-backup-key")["identity"]
    assert decoded.startswith("AGE-SECRET-KEY-1")
    kinds = "chatbotbackups,chatbotinstances,jobs,pods,events"
    everything = saved.kubectl("get", "-n", saved.namespace, kinds, "-o", "yaml")
    for job in saved.list("Job", component="backup") + saved.list("Job", component="backup-verify"):
        everything += saved.kubectl("logs", "-n", saved.namespace, f"job/{job['metadata']['name']}")
    assert decoded not in everything
    assert find_condition(_backup(saved, "first"), "Verified")["status"] == "True"
