"""The managed PostgreSQL: claim, bootstrap Job, server, Service."""

from typing import Final

from chatbot_operator.constants import ANNOTATION_SYSTEM_IDENTIFIER, POSTGRES_PORT
from chatbot_operator.desired import names
from chatbot_operator.desired.inputs import Claim, Inputs
from chatbot_operator.desired.metadata import Object, child, kept, selector, workload
from chatbot_operator.desired.parts import claim_spec, job_spec, service, shared_decisions
from chatbot_operator.desired.pods import POSTGRES_UID, Defaults, Pod, claim_volume, empty_dir, exec_probe, render_template
from chatbot_operator.desired.references import uses_of
from chatbot_operator.model.targets import JobTarget

_DEFAULTS: Final = Defaults(cpu="100m", memory="256Mi", memory_limit="1Gi")
_READY: Final = ("pg_isready", "-q", "-h", "127.0.0.1", "-U", "chatbot_app", "-d", "chatbot")
_GRACE_SECONDS: Final = 120
"""A fast shutdown writes a checkpoint; cutting it short costs a crash recovery, not data."""
_BOOTSTRAP_SECONDS: Final = 600


def render_claim(inputs: Inputs) -> Object:
    """Return the claim of the data."""
    storage = inputs.spec.database.storage
    name = names.claim_name(inputs.name, inputs.volume_generation)
    identifier = inputs.system_identifier or inputs.observed.claims.get(name, Claim()).identifier
    identity = {ANNOTATION_SYSTEM_IDENTIFIER: identifier} if identifier else {}
    spec = claim_spec(inputs, name, storage.size, storage.storage_class_name)
    return kept(inputs, "PersistentVolumeClaim", name, names.POSTGRES, spec, **identity)


def render_bootstrap(inputs: Inputs, job: JobTarget) -> Object:
    """Return the Job that makes the database on an empty volume, or tells which one lies there. Only it runs initdb."""
    component = names.BOOTSTRAP
    pod = Pod(
        component=component,
        account=names.component_name(inputs.name, names.POSTGRES),
        uid=POSTGRES_UID,
        image=inputs.operator.postgres_image,
        command="bootstrap",
        env={"EXPECTED_SYSTEM_IDENTIFIER": job.expected_identifier} if job.expected_identifier else {},
        uses=uses_of(component, inputs.name, inputs.spec),
        defaults=_DEFAULTS,
        resources=inputs.spec.database.resources,
        scheduling=inputs.spec.database.scheduling,
        # The claim is mounted here before the server runs, never beside it: no podAffinity to another pod is needed.
        volumes=_volumes(inputs),
        mounts=_MOUNTS,
        restart="Never",
    )
    return child(
        inputs,
        "Job",
        names.job_name(inputs.name, "pg-bootstrap", job.key, job.attempt),
        component,
        job_spec(_BOOTSTRAP_SECONDS, render_template(inputs, pod)),
    )


def render_server(inputs: Inputs) -> Object:
    """Return the StatefulSet. Parallel, because OrderedReady never replaces a pod that can't get ready, such as one with a bad image."""
    component = names.POSTGRES
    database, target = inputs.spec.database, inputs.targets.postgres
    pod = Pod(
        component=component,
        account=names.component_name(inputs.name, component),
        uid=POSTGRES_UID,
        image=inputs.operator.postgres_image,
        command="serve",
        env={},
        uses=uses_of(component, inputs.name, inputs.spec),
        defaults=_DEFAULTS,
        resources=database.resources,
        scheduling=database.scheduling,
        ports={"postgres": POSTGRES_PORT},
        probes={
            # Crash recovery may take long and must not be cut short by liveness.
            "startupProbe": exec_probe(_READY, period=5, timeout=5, failures=720),
            "livenessProbe": exec_probe(_READY, period=20, timeout=10, failures=6),
            "readinessProbe": exec_probe(_READY, period=5, timeout=5, failures=3),
        },
        volumes=_volumes(inputs),
        mounts=_MOUNTS,
        grace_seconds=_GRACE_SECONDS,
    )
    spec: Object = {
        "replicas": target.replicas,
        "serviceName": names.component_name(inputs.name, component),
        "podManagementPolicy": "Parallel",
        "revisionHistoryLimit": 3,
        "selector": {"matchLabels": selector(inputs, component)},
        "template": render_template(inputs, pod),
    }
    decided = {
        "replicas": target.replicas,
        "generation": inputs.volume_generation,
        "database": database.model_dump(mode="json", exclude_defaults=True, include={"resources", "scheduling"}),
        "shared": shared_decisions(inputs, pod),
    }
    return workload(inputs, "StatefulSet", names.component_name(inputs.name, component), component, spec, decided)


def render_service(inputs: Inputs) -> Object:
    """Return the Service of the database."""
    return service(inputs, names.POSTGRES, {"postgres": POSTGRES_PORT})


_MOUNTS: Final = {"data": "/var/lib/postgresql/data", "sockets": "/var/run/postgresql", "shm": "/dev/shm"}  # noqa: S108  the pod's own emptyDir


def _volumes(inputs: Inputs) -> tuple[Object, ...]:
    return (
        claim_volume("data", names.claim_name(inputs.name, inputs.volume_generation)),
        empty_dir("sockets", "16Mi"),
        # Parallel queries fail with the 64 MiB that containers get by default.
        empty_dir("shm", "256Mi", memory=True),
    )
