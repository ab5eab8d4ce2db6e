"""The steady machine: database, release and number of pods become targets. A later machine may set targets in other ways."""

from collections.abc import Mapping
from dataclasses import dataclass

from chatbot_operator.api.v1alpha1.instance import Lifecycle, Mode
from chatbot_operator.api.v1alpha1.instance_status import JobStatus
from chatbot_operator.desired import names
from chatbot_operator.desired.references import generated_secrets, uses_of
from chatbot_operator.gates.dependencies import judge_dependencies
from chatbot_operator.machines.database import DatabaseDecision, decide_database
from chatbot_operator.machines.release import ReleaseDecision, decide_release
from chatbot_operator.machines.scale import decide_replicas
from chatbot_operator.machines.secrets import SecretsDecision, decide_secrets
from chatbot_operator.machines.world import World
from chatbot_operator.model.plan import Use
from chatbot_operator.model.targets import ComponentTarget, Targets
from chatbot_operator.model.verdict import OK, Decision, Verdict, wait


@dataclass(frozen=True, slots=True)
class Steady:
    """Everything that the machine decided. `holds` has a verdict for each component: OK, or why it is left alone."""

    targets: Targets
    database: DatabaseDecision
    release: ReleaseDecision
    secrets: SecretsDecision
    holds: Mapping[str, Verdict]
    unknown_jobs: tuple[JobStatus, ...] = ()
    """What a newer operator recorded of Jobs that this one does not know: kept as it is."""

    @property
    def jobs(self) -> list[JobStatus]:
        """Return the states of all Jobs that differ from a first attempt not yet ended, which needs no record."""
        ours = [job for job in (self.database.job, self.release.job) if job is not None and (job.outcome or job.attempt > 1)]
        return [*ours, *self.unknown_jobs]


def decide_steady(world: World) -> Steady:
    """Decide what each component shall run now."""
    may_start = world.spec.lifecycle is not Lifecycle.HIBERNATED
    managed = world.spec.database.mode is Mode.MANAGED
    # Secrets are judged by what was known before this pass; marks with a fresh identity follow in `decide`.
    secrets = decide_secrets(world, world.snapshot.status.database.system_identifier or "")
    ready = _judge_secrets(world, secrets)
    if managed:
        database = decide_database(world, ready[names.BOOTSTRAP], may_start=may_start)
    else:
        database = DatabaseDecision(world.snapshot.status.database, OK)
    identifier = database.status.system_identifier or "" if managed else ""
    release = decide_release(world, ready[names.MIGRATE], database.verdict, identifier, may_start=may_start)
    replicas = decide_replicas(world)
    holds = {component: _hold(component, ready[component], replicas[component], database, release) for component in replicas}
    targets = {
        component: ComponentTarget(replicas=replicas[component], release=release.serving, hold=not verdict.ok)
        for component, verdict in holds.items()
    }
    return Steady(
        targets=Targets(
            postgres=targets[names.POSTGRES],
            redis=targets[names.REDIS],
            app=targets[names.APP],
            scheduler=targets[names.SCHEDULER],
            worker_web=targets[names.WORKER_WEB],
            bootstrap=database.bootstrap,
            migrate=release.migrate,
            volume_hold=database.lost or (managed and _waits_for_secrets(world, secrets, _database_claim(world))),
            backup_hold=_waits_for_secrets(world, secrets, names.backup_claim(world.name)),
        ),
        database=database,
        release=release,
        secrets=decide_secrets(world, identifier),
        holds=holds,
        unknown_jobs=tuple(job for job in world.snapshot.status.jobs if job.name not in (names.BOOTSTRAP, names.MIGRATE)),
    )


def _judge_secrets(world: World, secrets: SecretsDecision) -> Mapping[str, Verdict]:
    """Return for each component, Jobs included, whether its Secrets exist."""
    generated = {request.name for request in generated_secrets(world.name, world.spec)}
    pulls = tuple(Use(ref.name, "") for ref in world.spec.image_pull_secrets)
    components = (names.BOOTSTRAP, names.MIGRATE, names.POSTGRES, names.REDIS, names.APP, names.SCHEDULER, names.WORKER_WEB)
    return {
        component: judge_dependencies(
            (*uses_of(component, world.name, world.spec), *pulls), generated, world.snapshot.secrets, secrets.lost
        )
        for component in components
    }


def _hold(component: str, ready: Verdict, replicas: int | None, database: DatabaseDecision, release: ReleaseDecision) -> Verdict:
    """Return why a component is left alone. Stopping needs no Secret, so a missing one doesn't keep an instance from hibernating."""
    if database.lost or (component == names.POSTGRES and not database.verdict.ok):
        return database.verdict
    waits = component in (names.APP, names.SCHEDULER, names.WORKER_WEB) and release.serving is None
    if replicas != 0 and not ready.ok and not (waits and ready.decision is Decision.WAIT):
        return ready
    return wait("WaitsForMigration", "it waits for the migration of its first release") if waits else OK


def _database_claim(world: World) -> str:
    return names.claim_name(world.name, world.snapshot.status.database.volume_generation)


def _waits_for_secrets(world: World, secrets: SecretsDecision, claim: str) -> bool:
    """Return whether a claim must not be made yet. Secrets come first, so that a claim without its Secret means a lost one."""
    return not secrets.complete and world.child("PersistentVolumeClaim", claim) is None
