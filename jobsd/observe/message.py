"""An alert in words for a person: what, since when, how often, whom to ask, where to look, how to run it again."""

from collections.abc import Sequence
from datetime import UTC, datetime

from jobsd.domain.alert import AlertMessage

IN_FULL = 5  # alerts of one message that are told in full; the others are a line each
LISTED = 30


def title_of(alerts: Sequence[AlertMessage]) -> str:
    """ "jobsd: JOB_FAILED daily_report (14 times since 02:10 UTC)", or how many alerts there are."""
    if len(alerts) == 1:
        return f"jobsd: {_name(alerts[0])}" + (f" ({_often(alerts[0])})" if alerts[0].count > 1 else "")
    kinds = sorted({alert.type for alert in alerts})
    return f"jobsd: {len(alerts)} alerts, {', '.join(kinds)}"


def body_of(alerts: Sequence[AlertMessage]) -> str:
    """The text; a storm of alerts becomes a list that says how many it leaves out."""
    if len(alerts) <= IN_FULL:
        return "\n\n".join(_in_full(alert) for alert in alerts)
    lines = [_in_a_line(alert) for alert in alerts[:LISTED]]
    if len(alerts) > LISTED:
        lines.append(f"and {len(alerts) - LISTED} more")
    return "\n".join([*lines, "", "Look: jobsd run list --state failed"])


def _in_full(alert: AlertMessage) -> str:
    lines = [_name(alert), alert.summary, _when(alert)]
    if alert.owner:
        lines.append(f"Owner: {alert.owner}")
    if alert.on_failure:
        lines.append(f"What to do: {alert.on_failure}")
    if alert.run is not None:
        lines.append(f"Look:  jobsd run show {alert.run}")
    if alert.job:
        lines.append(f"Retry: jobsd trigger {alert.job}")
    return "\n".join(lines)


def _in_a_line(alert: AlertMessage) -> str:
    often = f" ({_often(alert)})" if alert.count > 1 else ""
    run = f", run {alert.run}" if alert.run is not None else ""
    return f"{alert.type} {alert.summary}{often}{run}"


def _when(alert: AlertMessage) -> str:
    run = f"Run {alert.run}, at" if alert.run is not None else "At"
    if alert.count == 1:
        return f"{run} {_instant(alert.last_at)}"
    new = f", {alert.new} of them new" if alert.new < alert.count else ""
    return f"{_often(alert)}{new}. The last: {run.lower()} {_instant(alert.last_at)}"


def _often(alert: AlertMessage) -> str:
    """ "14 times since 02:10 UTC"; with the date if that was another day than the last time."""
    same_day = alert.first_at.astimezone(UTC).date() == alert.last_at.astimezone(UTC).date()
    since = f"{alert.first_at.astimezone(UTC):%H:%M} UTC" if same_day else _instant(alert.first_at)
    return f"{alert.count} times since {since}"


def _instant(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def _name(alert: AlertMessage) -> str:
    return f"{alert.type} {alert.job}" if alert.job else alert.type
