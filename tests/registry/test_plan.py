"""What a reload would do, key by key."""

import pytest

from jobsd.registry.load import Registry
from jobsd.registry.plan import Change, Plan, diff
from tests.support.registry import Folder

BEFORE = """
    [log]
    level = "info"
    [http]
    port = 8620
    [jobs.stays]
    command = ["true"]
    [jobs.changes]
    command = ["echo", "${WORD}"]
    timeout = "1m"
    schedule = { every = "5m" }
    [jobs.goes]
    sql = "SELECT 1"
    """
AFTER = """
    [log]
    level = "debug"
    [http]
    port = 9000
    [jobs.stays]
    command = ["true"]
    [jobs.changes]
    command = ["echo", "${WORD}", "twice"]
    timeout = "1m"
    schedule = { cron = "0 * * * *" }
    [jobs.comes]
    sql = "SELECT 1"
    """


@pytest.fixture
def before(folder: Folder) -> Registry:
    return folder.load(BEFORE, WORD="a-secret-word")


@pytest.mark.req("C1")
def test_a_plan_tells_which_jobs_come_change_and_go(folder: Folder, before: Registry) -> None:
    plan = diff(before, folder.load(AFTER, WORD="a-secret-word"))

    assert plan.line == "+1 added ~1 changed -1 removed"
    assert (plan.added, plan.changed, plan.removed) == (("comes",), ("changes",), ("goes",))


def test_a_plan_tells_old_and_new_of_every_key(folder: Folder, before: Registry) -> None:
    plan = diff(before, folder.load(AFTER, WORD="a-secret-word"))

    assert plan.changes == (
        Change("jobs.changes.command", ["echo", "${WORD}"], ["echo", "${WORD}", "twice"]),
        Change("jobs.changes.schedule.every", "5m", None),
        Change("jobs.changes.schedule.cron", None, "0 * * * *"),
        Change("http.port", 8620, 9000),
        Change("log.level", "info", "debug"),
    )


def test_a_plan_tells_what_waits_for_the_next_start(folder: Folder, before: Registry) -> None:
    plan = diff(before, folder.load(AFTER, WORD="a-secret-word"))

    assert plan.needs_restart == ("http.port", "log.level")


def test_no_difference_is_no_plan(folder: Folder, before: Registry) -> None:
    plan = diff(before, folder.load(BEFORE, WORD="a-secret-word"))

    assert plan == Plan()
    assert not plan
    assert plan.line == "+0 added ~0 changed -0 removed"


def test_a_job_changes_with_its_variable_and_the_plan_does_not_tell_the_value(folder: Folder, before: Registry) -> None:
    plan = diff(before, folder.load(BEFORE, WORD="another-secret-word"))

    assert plan.changed == ("changes",)
    assert plan.changes == ()


def test_equal_jobs_have_equal_hashes_and_others_not_whatever_is_set_for_the_node(
    folder: Folder, before: Registry
) -> None:
    assert folder.load(BEFORE, WORD="a-secret-word").hash == before.hash
    assert folder.load(AFTER, WORD="a-secret-word").hash != before.hash
    assert folder.load(BEFORE, WORD="another-secret-word").hash != before.hash
    assert folder.load(BEFORE.replace("8620", "8621"), WORD="a-secret-word").hash == before.hash
