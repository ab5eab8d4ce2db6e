"""API and Admin UI: Deployment, Service, disruption budget, autoscaler."""

from typing import Final

from chatbot_operator.api.v1alpha1.instance import App
from chatbot_operator.constants import APP_PORT, METRICS_PORT
from chatbot_operator.desired import names
from chatbot_operator.desired.inputs import Inputs
from chatbot_operator.desired.metadata import Object, child, selector, workload
from chatbot_operator.desired.parts import decided_cloud, service, shared_decisions
from chatbot_operator.desired.pods import RUNTIME_UID, Defaults, Pod, render_template
from chatbot_operator.desired.references import uses_of
from chatbot_operator.desired.runtime import cloud_environment, drain, environment, probes
from chatbot_operator.model.targets import ReleaseTarget

_DEFAULTS: Final = Defaults(cpu="100m", memory="192Mi", memory_limit="512Mi")
_PRE_STOP_SECONDS: Final = 5
"""Longer than kube-proxy and ingress controllers usually take to withdraw an endpoint."""


def render_deployment(inputs: Inputs, release: ReleaseTarget) -> Object:
    """Return the Deployment. New pods come before old ones go, so that an update takes no capacity away."""
    component, app = names.APP, inputs.spec.app
    pod = Pod(
        component=component,
        account=names.component_name(inputs.name, component),
        uid=RUNTIME_UID,
        image=release.app_image,
        command="app",
        env={
            **environment(inputs, release.version, app.log_level, role="chatbot_app"),
            "ADMIN_USERNAME": "admin",
            **_way_in(app),
            **cloud_environment(inputs),
            **drain(app.termination_grace_period_seconds, _PRE_STOP_SECONDS),
        },
        uses=uses_of(component, inputs.name, inputs.spec),
        defaults=_DEFAULTS,
        resources=app.resources,
        scheduling=app.scheduling,
        ports={"http": APP_PORT, "metrics": METRICS_PORT},
        probes=probes("http"),
        grace_seconds=app.termination_grace_period_seconds,
        pre_stop_seconds=_PRE_STOP_SECONDS,
        spread=True,
    )
    spec: Object = {
        "revisionHistoryLimit": 3,
        "progressDeadlineSeconds": 600,
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
        "selector": {"matchLabels": selector(inputs, component)},
        "template": render_template(inputs, pod),
    }
    replicas = _replicas(inputs)
    if replicas is not None:
        spec["replicas"] = replicas
    decided = {
        "replicas": inputs.targets.app.replicas,
        "release": [release.version, release.app_image],
        "app": app.model_dump(mode="json", exclude_defaults=True, exclude={"replicas", "autoscaling"}),
        "cloud": decided_cloud(inputs),
        "shared": shared_decisions(inputs, pod),
    }
    return workload(inputs, "Deployment", names.component_name(inputs.name, component), component, spec, decided)


def render_service(inputs: Inputs) -> Object:
    """Return the Service of the API."""
    return service(inputs, names.APP, {"http": APP_PORT})


def render_budget(inputs: Inputs) -> Object | None:
    """Return the disruption budget, or None for a single pod: there it would only block drains of nodes."""
    app = inputs.spec.app
    least = app.autoscaling.min_replicas if app.autoscaling else app.replicas
    if least < 2:
        return None
    spec = {"maxUnavailable": 1, "selector": {"matchLabels": selector(inputs, names.APP)}}
    return child(inputs, "PodDisruptionBudget", names.component_name(inputs.name, names.APP), names.APP, spec)


def render_autoscaler(inputs: Inputs) -> Object | None:
    """Return the autoscaler, or None when the number of pods is fixed, also by hibernation."""
    scaling = inputs.spec.app.autoscaling
    if scaling is None or inputs.targets.app.replicas is not None:
        return None
    name = names.component_name(inputs.name, names.APP)
    cpu = {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": scaling.target_cpu_percent}}
    spec = {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": name},
        "minReplicas": scaling.min_replicas,
        "maxReplicas": scaling.max_replicas,
        "metrics": [{"type": "Resource", "resource": cpu}],
    }
    return child(inputs, "HorizontalPodAutoscaler", name, names.APP, spec)


def _way_in(app: App) -> dict[str, str]:
    """Return how people reach the API from outside; nothing when nobody said so."""
    env = {}
    if app.public_url:
        env["PUBLIC_URL"] = app.public_url
    if app.trusted_proxies:
        env["TRUSTED_PROXIES"] = ",".join(app.trusted_proxies)
    return env


def _replicas(inputs: Inputs) -> int | None:
    """Return the number to apply. Under an autoscaler it is what was observed, until the autoscaler owns the field and it is left out.

    Leaving it out before would hand it back to nobody, and the Deployment would fall to one pod.
    """
    target, scaling, seen = inputs.targets.app.replicas, inputs.spec.app.autoscaling, inputs.observed
    if target is not None or scaling is None:
        return target
    if not seen.app_replicas:
        return scaling.min_replicas
    return None if seen.app_replicas_foreign else seen.app_replicas
