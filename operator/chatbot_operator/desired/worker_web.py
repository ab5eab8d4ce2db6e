"""WhatsApp Web: one StatefulSet with one pod and one claim per number, because two sessions on one number end both."""

from typing import Final

from chatbot_operator.api.v1alpha1.instance import WebNumber
from chatbot_operator.constants import METRICS_PORT
from chatbot_operator.desired import names
from chatbot_operator.desired.inputs import Inputs
from chatbot_operator.desired.metadata import Object, kept, selector, workload
from chatbot_operator.desired.parts import claim_spec, shared_decisions
from chatbot_operator.desired.pods import RUNTIME_UID, Defaults, Pod, claim_volume, empty_dir, render_template
from chatbot_operator.desired.references import uses_of
from chatbot_operator.desired.runtime import drain, environment, probes
from chatbot_operator.model.targets import ReleaseTarget

_DEFAULTS: Final = Defaults(cpu="200m", memory="512Mi", memory_limit="1536Mi")
_PROFILE: Final = "/var/lib/chatbot/profile"


def render_claim(inputs: Inputs, number: WebNumber) -> Object:
    """Return the claim of the browser profile, which holds the session: losing it means that a person must pair the number again."""
    name = names.web_name(inputs.name, number.name)
    spec = claim_spec(inputs, name, number.session_storage, inputs.spec.worker_web.storage_class_name)
    return kept(inputs, "PersistentVolumeClaim", name, names.WORKER_WEB, spec, number=number.name)


def render_worker(inputs: Inputs, number: WebNumber, release: ReleaseTarget) -> Object:
    """Return the StatefulSet of one number."""
    component, worker, target = names.WORKER_WEB, inputs.spec.worker_web, inputs.targets.worker_web
    name = names.web_name(inputs.name, number.name)
    pod = Pod(
        component=component,
        account=names.component_name(inputs.name, component),
        uid=RUNTIME_UID,
        image=release.worker_web_image,
        command="worker-web",
        env={
            **environment(inputs, release.version, worker.log_level, role="chatbot_app"),
            "WEB_NUMBER": number.name,
            "WEB_PROFILE_DIR": _PROFILE,
            **drain(worker.termination_grace_period_seconds),
        },
        uses=uses_of(component, inputs.name, inputs.spec),
        defaults=_DEFAULTS,
        resources=worker.resources,
        scheduling=worker.scheduling,
        number=number.name,
        ports={"metrics": METRICS_PORT},
        probes=probes("metrics"),
        # Chromium keeps its caches in /tmp and its frames in /dev/shm.
        volumes=(claim_volume("profile", name), empty_dir("tmp", "1Gi"), empty_dir("shm", "256Mi", memory=True)),
        mounts={"profile": _PROFILE, "shm": "/dev/shm"},  # noqa: S108  the pod's own emptyDir
        grace_seconds=worker.termination_grace_period_seconds,
    )
    spec: Object = {
        "replicas": target.replicas,
        "podManagementPolicy": "Parallel",
        "revisionHistoryLimit": 3,
        "selector": {"matchLabels": selector(inputs, component, number.name)},
        "template": render_template(inputs, pod),
    }
    decided = {
        "replicas": target.replicas,
        "release": [release.version, release.worker_web_image],
        "worker": worker.model_dump(mode="json", exclude_defaults=True, exclude={"numbers", "storage_class_name"}),
        "shared": shared_decisions(inputs, pod),
    }
    return workload(inputs, "StatefulSet", name, component, spec, decided, number=number.name)
