"""Channels: the log, and Apprise against a real webhook."""

import io
import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from jobsd.observe import channels, logs
from jobsd.observe.channels import AppriseChannel, ChannelError, LogChannel
from jobsd.observe.redact import Redactor, secrets_of
from jobsd.registry.settings import LogSettings, Settings
from tests.observe.test_message import alert
from tests.support.webhook import webhook

CANARY = "canary-51ab-password"


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers, root.level = handlers, level
    structlog.reset_defaults()


@pytest.mark.req("C6")
async def test_a_webhook_gets_title_and_text() -> None:
    async with webhook() as hook:
        channel = AppriseChannel("ops", f"json://{hook.address}/alerts", Redactor())

        await channel.send([alert(owner="data@example.org")])

        post = hook.posts.get_nowait()
    assert post["title"] == "jobsd: JOB_FAILED daily_report"
    assert "daily_report: connection refused" in post["message"]
    assert "Owner: data@example.org" in post["message"]
    assert post["path"].rstrip("/") == "/alerts"


@pytest.mark.req("C6")
async def test_several_alerts_are_one_message() -> None:
    async with webhook() as hook:
        channel = AppriseChannel("ops", f"json://{hook.address}", Redactor())

        await channel.send([alert(job=f"job{n}", summary=f"job{n}: refused") for n in range(40)])

        assert hook.posts.qsize() == 1
        assert hook.posts.get_nowait()["title"] == "jobsd: 40 alerts, JOB_FAILED"


async def test_no_secret_leaves_in_a_message() -> None:
    async with webhook() as hook:
        channel = AppriseChannel("ops", f"json://{hook.address}", Redactor([CANARY]))

        await channel.send([alert(summary=f"daily_report: postgresql://app:{CANARY}@db1 and again {CANARY}")])

        assert CANARY not in json.dumps(hook.posts.get_nowait())


@pytest.mark.parametrize("status", [500, 403, 302])
@pytest.mark.fault(41)
async def test_an_error_or_a_redirect_is_a_failure_that_says_which(status: int) -> None:
    async with webhook() as hook:
        hook.status = status
        channel = AppriseChannel("ops", f"json://{hook.address}", Redactor())

        with pytest.raises(ChannelError, match=str(status)):
            await channel.send([alert()])

        assert hook.posts.qsize() == 1  # the redirect was not followed


@pytest.mark.fault(41)
async def test_a_channel_that_does_not_answer_is_given_up_and_not_piled_upon() -> None:
    async with webhook(hang=True) as hook:
        channel = AppriseChannel("ops", f"json://{hook.address}?rto=60", Redactor(), deadline_s=0.3)

        with pytest.raises(ChannelError, match=r"no answer within 0\.3 s"):
            await channel.send([alert()])
        with pytest.raises(ChannelError, match="an earlier message still hangs"):
            await channel.send([alert()])


async def test_a_failure_never_repeats_the_url() -> None:
    settings = Settings.model_validate(
        {"alerts": {"channels": {"ops": {"url": f"json://user:{CANARY}@127.0.0.1:1/a-long-token-{CANARY}"}}}}
    )
    _, channel = channels.build(settings.alerts, Redactor(secrets_of(settings, {})))

    with pytest.raises(ChannelError) as caught:
        await channel.send([alert()])

    assert CANARY not in str(caught.value)
    assert str(caught.value)


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("nosuchservice://abc", "Apprise cannot use this"),
        (f"jsons://user:{CANARY}@example.org?verify=no", "verify=no is not allowed"),
    ],
)
async def test_a_url_that_cannot_be_used_is_named_without_repeating_it(url: str, reason: str) -> None:
    settings = Settings.model_validate({"alerts": {"channels": {"ops": {"url": url}}}})

    assert reason in channels.check(settings.alerts)["ops"]
    assert CANARY not in channels.check(settings.alerts)["ops"]
    with pytest.raises(ChannelError, match=reason):
        await AppriseChannel("ops", url, Redactor()).send([alert()])


def test_usable_urls_have_nothing_wrong_with_them() -> None:
    settings = Settings.model_validate({"alerts": {"channels": {"ops": {"url": "jsons://example.org/hook"}}}})

    assert channels.check(settings.alerts) == {}


@pytest.mark.req("C6")
async def test_the_log_gets_a_line_for_each_alert_named_for_its_type() -> None:
    out = io.StringIO()
    logs.setup(LogSettings(format="json"), Redactor([CANARY]), out)

    await LogChannel().send([alert(summary=f"daily_report: {CANARY}"), alert(type="JOB_LOST", run=43)])

    first, second = [json.loads(line) for line in out.getvalue().splitlines()]
    assert (first["event"], first["level"], first["alert"]) == ("job_failed", "error", "JOB_FAILED")
    assert {"job": "daily_report", "run": 42, "summary": "daily_report: ***", "count": 1}.items() <= first.items()
    assert (second["event"], second["run"]) == ("job_lost", 43)


def test_the_log_is_always_among_the_channels_and_its_name_is_taken() -> None:
    settings = Settings.model_validate({"alerts": {"channels": {"ops": {"url": "json://127.0.0.1"}}}})

    assert [channel.name for channel in channels.build(settings.alerts, Redactor())] == ["log", "ops"]
    with pytest.raises(ValueError, match="the log is told always"):
        Settings.model_validate({"alerts": {"channels": {"log": {"url": "json://127.0.0.1"}}}})
