"""Moves the release of an instance: the migration of the wanted release first, then its components; until then the old one serves on.

This is the steady machine: it knows no windows, backups or rollback. `desired` reads only what it decides.
"""

from dataclasses import dataclass
from typing import Final

from chatbot_operator.api.v1alpha1.instance import Mode, Release
from chatbot_operator.api.v1alpha1.instance_status import AppliedRelease, JobStatus, ReleaseStatus
from chatbot_operator.desired import names
from chatbot_operator.desired.metadata import digest
from chatbot_operator.desired.references import uses_of
from chatbot_operator.machines.jobs import JobCase, decide_job
from chatbot_operator.machines.world import World
from chatbot_operator.model.targets import JobTarget, ReleaseTarget
from chatbot_operator.model.verdict import OK, Verdict, wait

WAITS_FOR_DATABASE: Final = wait("WaitsForDatabase", "the migration waits for the database")


@dataclass(frozen=True, slots=True)
class ReleaseDecision:
    """New state, the verdict on the migration, the release that components shall run, and the Job that must exist now."""

    status: ReleaseStatus
    verdict: Verdict
    job: JobStatus | None
    serving: ReleaseTarget | None
    migrate: JobTarget | None = None

    @property
    def current(self) -> bool:
        """Return whether the components may run the wanted release."""
        return self.verdict.ok


def resolve_release(release: Release) -> ReleaseTarget:
    """Return the images of a release; each falls back to `release.image`, which the API demands unless all are named."""
    images, common = release.images, release.image or ""
    return ReleaseTarget(
        version=release.version,
        app_image=(images.app if images and images.app else common),
        scheduler_image=(images.scheduler if images and images.scheduler else common),
        worker_web_image=(images.worker_web if images and images.worker_web else common),
    )


def decide_release(world: World, ready: Verdict, database: Verdict, identifier: str, *, may_start: bool) -> ReleaseDecision:
    """Decide about the release.

    Args:
        world: What is known.
        ready: Whether the Secrets of the migration exist.
        database: Whether the database may be used.
        identifier: Of a managed database, empty while unknown or External.
        may_start: False while nothing new may be started (hibernation).
    """
    wanted = resolve_release(world.spec.release)
    status = world.snapshot.status.release.model_copy(update={"desired": wanted.version})
    job, applied = world.job(names.MIGRATE), status.applied
    serving = _target(applied) if applied is not None else None
    release_key = _key(world, wanted, identifier)
    if applied is not None and applied.key == release_key:
        status = _count(world, status, release_key)
        return ReleaseDecision(status.model_copy(update={"applied": _applied(wanted, release_key)}), OK, job, wanted)
    if not database.ok:
        return ReleaseDecision(status, WAITS_FOR_DATABASE, job, serving)
    if not ready.ok:
        return ReleaseDecision(status, ready, job, serving)
    return _migrate(world, _count(world, status, release_key), wanted, release_key, serving, may_start=may_start)


def _migrate(
    world: World, status: ReleaseStatus, wanted: ReleaseTarget, release_key: str, serving: ReleaseTarget | None, *, may_start: bool
) -> ReleaseDecision:
    job, key = world.job(names.MIGRATE), digest([status.wanted_key, status.sequence], size=5)
    attempt = job.attempt if job is not None and job.key == key else 1
    name = names.job_name(world.name, names.MIGRATE, key, attempt)
    if set(world.jobs_working(names.MIGRATE)) - {name}:
        return ReleaseDecision(status, wait("MigrationRunning", "the migration of another release has to end first"), job, serving)
    child = world.child("Job", name)
    if not may_start and not world.under_way(names.MIGRATE, key, child):
        return ReleaseDecision(status, wait("NotMigrated", "the migration runs when the instance runs"), job, serving)
    case = JobCase(
        name=names.MIGRATE,
        key=key,
        state=job,
        child=child,
        pods=world.pods(names.MIGRATE),
        now=world.snapshot.now,
        uid=world.uid,
        requested=world.requested,
    )
    decided = decide_job(case)
    if decided.verdict.ok:
        revision = str((decided.report or {}).get("revision") or "") or status.schema_revision
        moved = status.model_copy(update={"applied": _applied(wanted, release_key), "schema_revision": revision})
        return ReleaseDecision(moved, OK, decided.state, wanted)
    target = _job_target(world, key, decided.state.attempt, wanted) if decided.wanted else None
    return ReleaseDecision(status, decided.verdict, decided.state, serving, target)


def _job_target(world: World, key: str, attempt: int, wanted: ReleaseTarget) -> JobTarget:
    limits = world.spec.release.migrations
    return JobTarget(
        key=key,
        attempt=attempt,
        release=wanted,
        timeout_seconds=limits.timeout_seconds,
        lock_timeout_seconds=limits.lock_timeout_seconds,
    )


def _key(world: World, wanted: ReleaseTarget, identifier: str) -> str:
    """Return what is migrated: this database to this release. Another operator version changes nothing."""
    database = identifier
    if world.spec.database.mode is Mode.EXTERNAL:
        use = uses_of(names.MIGRATE, world.name, world.spec)[0]
        facts = world.snapshot.secrets.get(use.secret)
        database = facts.keys.get(use.key, "") if facts else ""
    return digest([world.uid, wanted.version, wanted.app_image, database], size=5)


def _count(world: World, status: ReleaseStatus, release_key: str) -> ReleaseStatus:
    """Return the status that counts what is wanted. The number tells Jobs apart: the result of an earlier time says nothing about now.

    Other limits are another Job too, so that a migration which ran out of time can be given more.
    """
    limits = world.spec.release.migrations.model_dump(mode="json", exclude_defaults=True)
    wanted_key = digest([release_key, limits], size=5)
    if wanted_key == status.wanted_key:
        return status
    return status.model_copy(update={"wanted_key": wanted_key, "sequence": (status.sequence or 0) + 1})


def _applied(release: ReleaseTarget, key: str) -> AppliedRelease:
    return AppliedRelease(
        version=release.version, app=release.app_image, scheduler=release.scheduler_image, worker_web=release.worker_web_image, key=key
    )


def _target(applied: AppliedRelease) -> ReleaseTarget:
    return ReleaseTarget(applied.version, applied.app, applied.scheduler, applied.worker_web)
