"""Pure. One backup from its first pass to its proof: what it waits for, makes and says, and that dying anywhere harms nothing."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatbot_operator.api.v1alpha1.backup import ChatbotBackupStatus
from chatbot_operator.constants import ANNOTATION_RECONCILE_AT
from chatbot_operator.machines.backoff import parse_time
from chatbot_operator.machines.backup import MAX_ATTEMPTS, Turn, decide_backup, read_turn
from chatbot_operator.model.effect import Apply
from chatbot_operator.model.objects import key_of
from chatbot_operator.model.snapshot import EffectFailure, SecretFacts
from tests.unit.operator.machines.backup_world import ARCHIVE, PROVEN, SECRETS, STORED, World, failed, instance, proven


def test_a_backup_is_made_then_proven_and_then_costs_nothing() -> None:
    world = World()
    world.run_pass()
    assert (world.condition("Succeeded"), world.condition("Verified")) == (("Unknown", "JobRunning"), ("Unknown", "WaitsForBackup"))
    world.now += timedelta(seconds=40)
    world.end(STORED)
    world.run_pass()
    assert (world.condition("Succeeded"), world.condition("Verified")) == (("True", "BackupStored"), ("Unknown", "JobRunning"))
    assert world.status.archive is not None
    assert (world.status.archive.object_key, world.status.duration_seconds) == ("uid-i/logical/uid-b", 40)
    world.end(PROVEN)
    world.run_pass()
    assert world.condition("Verified") == ("True", "ReadCompletely")
    before = world.status
    for _ in range(3):
        assert not world.run_pass().effects
    assert world.status == before
    assert [name.rsplit("-", 2)[0] for name in world.made] == ["backup", "backup-verify"]
    assert read_turn(world.status.to_api()) == Turn(False)


@pytest.mark.parametrize(
    ("change", "succeeded"),
    [
        ({"instance": None}, ("Unknown", "InstanceNotFound")),
        ({"instance": instance(deleting=True)}, ("Unknown", "InstanceNotFound")),
        ({"instance": instance(backup=None)}, ("False", "NoTarget")),
        ({"instance": instance(lifecycle="Paused")}, ("Unknown", "InstancePaused")),
        ({"instance": instance(lifecycle="Hibernated")}, ("Unknown", "InstanceHibernated")),
        ({"instance": instance(ready=False)}, ("Unknown", "WaitsForDatabase")),
        ({"instance": replace(instance(), spec=None)}, ("Unknown", "InstanceInvalid")),
        ({"ahead": ("earlier",)}, ("Unknown", "Queued")),
        ({"migrating": True}, ("Unknown", "MigrationRunning")),
        ({"secrets": {**SECRETS, "shop-backup-key": None}}, ("Unknown", "DependencyMissing")),
    ],
)
def test_what_it_waits_for_is_named_nothing_is_made_and_it_goes_on_by_itself(change: dict[str, Any], succeeded: tuple[str, str]) -> None:
    world = World(**change)
    world.run_pass()
    assert world.condition("Succeeded") == succeeded
    assert world.condition("Verified")[0] == "Unknown"
    assert not world.made
    assert world.status.start_time is None, "the clock of its duration starts with its work"
    world.instance, world.ahead, world.secrets, world.migrating = instance(), (), dict(SECRETS), False
    world.run_pass()
    assert len(world.made) == 1


def test_an_external_database_needs_no_condition_of_the_instance() -> None:
    spec = {"database": {"mode": "External", "external": {"urlRef": {"name": "db", "key": "url"}}}}
    world = World(instance=instance(ready=False, **spec), secrets={**SECRETS, "db": SecretFacts("db", {"url": "1"})})
    world.run_pass()
    assert len(world.made) == 1


def test_a_failure_that_may_pass_is_tried_again_at_its_time_and_others_wait_for_a_person() -> None:
    world = World()
    world.run_pass()
    world.end(failed("DatabaseUnreachable"))
    decision = world.run_pass()
    assert world.condition("Succeeded") == ("False", "DatabaseUnreachable")
    assert decision.outcome.requeue_after is not None
    assert len(world.made) == 1
    world.now += timedelta(seconds=decision.outcome.requeue_after)
    world.run_pass()
    assert len(world.made) == 2
    world.end(failed("TargetFull"))
    world.run_pass()
    world.now += timedelta(days=1)
    world.run_pass()
    assert world.condition("Succeeded") == ("False", "TargetFull")
    assert len(world.made) == 2
    assert read_turn(world.status.to_api()) == Turn(False), "it holds up no other"
    world.annotations[ANNOTATION_RECONCILE_AT] = "now"
    world.run_pass()
    assert len(world.made) == 3
    assert world.status.last_handled_reconcile_at == "now"


@pytest.mark.parametrize(
    ("reason", "verified"),
    [
        ("HashMismatch", "False"),
        ("DecryptFailed", "False"),
        ("ManifestMissing", "False"),
        ("KeyMismatch", "False"),
        ("TargetUnavailable", "Unknown"),
        ("DeadlineExceeded", "Unknown"),
        ("ProofFailed", "Unknown"),
        ("OfANewerImage", "Unknown"),
    ],
)
def test_a_bad_archive_is_not_verified_and_one_that_could_not_be_read_is_unknown(reason: str, verified: str) -> None:
    world = World()
    world.run_pass()
    world.end(STORED)
    world.run_pass()
    world.end(failed(reason, "backup-verify"))
    world.run_pass()
    assert world.condition("Verified") == (verified, reason)
    assert world.condition("Succeeded") == ("True", "BackupStored")
    world.now += timedelta(days=1)
    assert not [effect for effect in world.run_pass().effects if isinstance(effect, Apply)], "a person has to look"


def test_a_lost_result_runs_the_same_job_again_and_the_archive_is_of_whoever_reports() -> None:
    world = World()
    world.run_pass()
    world.end(None)
    decision = world.run_pass()
    assert world.condition("Succeeded") == ("False", "ResultUnreadable")
    world.now += timedelta(seconds=decision.outcome.requeue_after or 0)
    world.run_pass()
    world.end({**STORED, "reason": "AlreadyStored"})
    world.run_pass()
    assert world.condition("Succeeded")[0] == "True"
    assert world.made[0] != world.made[1]


def test_a_success_that_does_not_say_what_was_stored_is_none() -> None:
    world = World()
    world.run_pass()
    world.end({**STORED, "archive": {"objectKey": 7}})
    world.run_pass()
    assert world.condition("Succeeded") == ("False", "ResultUnreadable")
    assert world.status.archive is None


def test_a_job_at_work_is_followed_to_its_end_whatever_becomes_of_the_instance() -> None:
    world = World()
    world.run_pass()
    world.instance = None
    world.run_pass()
    assert world.condition("Succeeded") == ("Unknown", "JobRunning")
    world.end(STORED)
    world.run_pass()
    assert world.condition("Succeeded")[0] == "True"
    assert world.condition("Verified") == ("Unknown", "InstanceNotFound")
    world.instance = instance(uid="another")
    world.run_pass()
    assert world.condition("Verified") == ("Unknown", "JobRunning"), "a proof needs only volume and key, which the new one has"


def test_a_backup_of_an_instance_that_was_replaced_before_it_was_stored_is_none() -> None:
    world = World()
    world.run_pass()
    world.end(failed("DatabaseUnreachable"))
    decision = world.run_pass()
    world.instance = instance(uid="another")
    world.now += timedelta(seconds=decision.outcome.requeue_after or 0)
    world.run_pass()
    assert world.condition("Succeeded") == ("False", "InstanceReplaced")
    assert read_turn(world.status.to_api()) == Turn(False)


def test_the_dump_of_another_database_is_none_of_this_instance() -> None:
    known = instance()
    status = known.status.model_copy(update={"database": known.status.database.model_copy(update={"system_identifier": "7000"})})
    world = World(instance=replace(known, status=status))
    world.run_pass()
    world.end({**STORED, "archive": {**ARCHIVE, "systemIdentifier": "7001"}})
    world.run_pass()
    assert world.condition("Succeeded") == ("False", "WrongDatabase")
    assert world.status.archive is None


def test_strange_tables_are_no_reason_to_doubt_an_archive() -> None:
    world = World()
    world.run_pass()
    world.end({**STORED, "archive": {**ARCHIVE, "tables": [{"name": "x" * 300, "rows": 1}]}})
    world.run_pass()
    assert world.condition("Succeeded")[0] == "True"


def test_attempts_end_and_a_backup_between_two_of_them_lets_others_pass() -> None:
    world = World()
    for _ in range(MAX_ATTEMPTS + 3):
        decision = world.run_pass()
        if any(not job.health.terminal for job in world.jobs.values()):
            world.end(failed("DatabaseUnreachable"))
            decision = world.run_pass()
            turn = read_turn(world.status.to_api())
            assert (turn.wants, turn.at is not None) == (len(world.made) < MAX_ATTEMPTS, len(world.made) < MAX_ATTEMPTS)
        world.now += timedelta(seconds=decision.outcome.requeue_after or 600)
    assert len(world.made) == MAX_ATTEMPTS
    assert "reconcile-at" in next(item.message for item in world.status.conditions if item.type == "Succeeded")


def test_a_request_stays_open_until_there_was_another_attempt() -> None:
    world = World()
    world.run_pass()
    world.end(failed("TargetFull"))
    world.run_pass()
    world.instance = instance(ready=False)
    world.annotations[ANNOTATION_RECONCILE_AT] = "now"
    world.run_pass()
    assert world.status.last_handled_reconcile_at is None
    assert len(world.made) == 1
    world.instance = instance()
    world.run_pass()
    assert len(world.made) == 2
    assert world.status.last_handled_reconcile_at == "now"


def test_a_job_that_kubernetes_ended_for_its_time_is_told_as_that() -> None:
    world = World()
    world.run_pass()
    world.end(None)
    key, job = next(iter(world.jobs.items()))
    world.jobs[key] = replace(job, details={**job.details, "ended": "DeadlineExceeded"})
    world.run_pass()
    assert world.condition("Succeeded") == ("False", "DeadlineExceeded")
    assert read_turn(world.status.to_api()) == Turn(False), "the same time would not be enough again"


def test_a_backup_that_is_being_deleted_makes_nothing() -> None:
    world = World(deleting=True)
    assert world.run_pass().effects == ()


def test_a_refused_job_is_named_and_tried_again_later() -> None:
    world = World()
    decision = decide_backup(world.snapshot())
    job = next(key_of(effect.manifest) for effect in decision.effects if isinstance(effect, Apply))
    world.status = ChatbotBackupStatus.model_validate(decision.status.to_api())
    world.failures = (EffectFailure(job, "QuotaExceeded", "no more Jobs"),)
    decision = world.run_pass()
    assert world.condition("Succeeded") == ("False", "QuotaExceeded")
    assert not world.made
    assert world.status.retry is not None
    due = parse_time(world.status.retry.next_time)
    assert due is not None
    world.now = due
    world.run_pass()
    assert len(world.made) == 1
    world.run_pass()
    assert world.status.retry is None


def test_of_many_failed_attempts_only_the_last_ones_stay() -> None:
    world = World()
    for _ in range(8):
        decision = world.run_pass()
        if any(not job.health.terminal for job in world.jobs.values()):
            world.end(failed("DatabaseUnreachable"))
            decision = world.run_pass()
        world.now += timedelta(seconds=decision.outcome.requeue_after or 0)
    assert len(world.made) >= 6
    assert len(world.jobs) <= 4


def test_only_a_proven_backup_is_never_looked_at_again_without_a_reason() -> None:
    assert proven().run_pass().outcome.over
    world = World()
    assert not world.run_pass().outcome.over
    world.end(failed("TargetFull"))
    assert not world.run_pass().outcome.over


def test_people_hear_of_a_proof_that_fails() -> None:
    world = proven()
    assert not [event for event in world.said if event.type == "Warning"]


@given(crashes=st.lists(st.integers(min_value=0, max_value=3), max_size=8), lost=st.booleans())
def test_dying_anywhere_ends_in_the_same_state(crashes: list[int], lost: bool) -> None:
    calm = proven()
    world = World()
    plan = iter(crashes)
    results = iter([None, STORED, PROVEN] if lost else [STORED, PROVEN])
    for _ in range(40):
        world.run_pass(crash_after=next(plan, None))
        running = [job for job in world.jobs.values() if not job.health.terminal]
        assert len(running) <= 1
        if running:
            world.end(next(results))
        world.now += timedelta(minutes=20)
    assert world.condition("Verified") == ("True", "ReadCompletely")
    assert world.status.archive == calm.status.archive
    assert len(world.made) == (3 if lost else 2)
