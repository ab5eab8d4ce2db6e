"""Periodic work, bot brain and Cloud API sender: one pod, replaced only after it has ended."""

from typing import Final

from chatbot_operator.constants import METRICS_PORT
from chatbot_operator.desired import names
from chatbot_operator.desired.inputs import Inputs
from chatbot_operator.desired.metadata import Object, selector, workload
from chatbot_operator.desired.parts import decided_cloud, shared_decisions
from chatbot_operator.desired.pods import RUNTIME_UID, Defaults, Pod, render_template
from chatbot_operator.desired.references import uses_of
from chatbot_operator.desired.runtime import cloud_environment, drain, environment, probes
from chatbot_operator.model.targets import ReleaseTarget

_DEFAULTS: Final = Defaults(cpu="50m", memory="128Mi", memory_limit="384Mi")


def render_deployment(inputs: Inputs, release: ReleaseTarget) -> Object:
    """Return the Deployment."""
    component, scheduler = names.SCHEDULER, inputs.spec.scheduler
    pod = Pod(
        component=component,
        account=names.component_name(inputs.name, component),
        uid=RUNTIME_UID,
        image=release.scheduler_image,
        command="scheduler",
        env={
            **environment(inputs, release.version, scheduler.log_level, role="chatbot_app"),
            **cloud_environment(inputs),
            **drain(scheduler.termination_grace_period_seconds),
        },
        uses=uses_of(component, inputs.name, inputs.spec),
        defaults=_DEFAULTS,
        resources=scheduler.resources,
        scheduling=scheduler.scheduling,
        ports={"metrics": METRICS_PORT},
        probes=probes("metrics"),
        grace_seconds=scheduler.termination_grace_period_seconds,
    )
    spec: Object = {
        "replicas": inputs.targets.scheduler.replicas,
        "revisionHistoryLimit": 3,
        "progressDeadlineSeconds": 600,
        "strategy": {"type": "Recreate"},
        "selector": {"matchLabels": selector(inputs, component)},
        "template": render_template(inputs, pod),
    }
    decided = {
        "replicas": inputs.targets.scheduler.replicas,
        "release": [release.version, release.scheduler_image],
        "scheduler": scheduler.model_dump(mode="json", exclude_defaults=True),
        "cloud": decided_cloud(inputs),
        "shared": shared_decisions(inputs, pod),
    }
    return workload(inputs, "Deployment", names.component_name(inputs.name, component), component, spec, decided)
