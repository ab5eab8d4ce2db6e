"""The Job that brings the schema to a release's head; a first install and an already current schema are the same Job."""

from typing import Final

from chatbot_operator.api.v1alpha1.instance import LogLevel, Mode
from chatbot_operator.desired import names
from chatbot_operator.desired.inputs import Inputs
from chatbot_operator.desired.metadata import Object, child
from chatbot_operator.desired.parts import job_spec
from chatbot_operator.desired.pods import RUNTIME_UID, Defaults, Pod, render_template
from chatbot_operator.desired.references import uses_of
from chatbot_operator.desired.runtime import environment
from chatbot_operator.model.targets import JobTarget, ReleaseTarget

_DEFAULTS: Final = Defaults(cpu="100m", memory="128Mi", memory_limit="512Mi")
_REPORT_SECONDS: Final = 60
"""Between the migration's own limit and the Job's: time to report what it finds."""


def render_job(inputs: Inputs, job: JobTarget, release: ReleaseTarget) -> Object:
    """Return the migration Job of a release."""
    component = names.MIGRATE
    env = {
        **environment(inputs, release.version, LogLevel.INFO, role="chatbot_owner"),
        "LOCK_TIMEOUT_S": str(job.lock_timeout_seconds),
        "MIGRATE_TIMEOUT_S": str(job.timeout_seconds),
    }
    if inputs.spec.database.mode is Mode.MANAGED:
        env["DATABASE_APP_ROLE"] = "chatbot_app"
    pod = Pod(
        component=component,
        account=names.component_name(inputs.name, component),
        uid=RUNTIME_UID,
        image=release.app_image,
        command="migrate",
        env=env,
        uses=uses_of(component, inputs.name, inputs.spec),
        defaults=_DEFAULTS,
        scheduling=inputs.spec.app.scheduling,
        restart="Never",
    )
    name = names.job_name(inputs.name, component, job.key, job.attempt)
    return child(inputs, "Job", name, component, job_spec(job.timeout_seconds + _REPORT_SECONDS, render_template(inputs, pod)))
