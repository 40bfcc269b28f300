"""What can be wrong with a schedule's table beyond the kinds of its values, worded for the file's author."""

from collections.abc import Iterator
from datetime import timedelta
from zoneinfo import ZoneInfo, available_timezones

from jobsd.domain.cron import ScheduleError, parse
from jobsd.domain.duration import format_duration
from jobsd.domain.errors import did_you_mean
from jobsd.domain.job import Blackout, ScheduleSpec
from jobsd.domain.ticks_of import always_dark
from jobsd.domain.zone import SECOND, in_zone

LONGEST_BLACKOUT = timedelta(days=31)
FORMS = ("every", "cron", "after")
_MACHINES_OWN = ("localtime", "posixrules", "Factory")  # names whose meaning depends on the machine


def mistakes(spec: ScheduleSpec) -> Iterator[ScheduleError]:
    """All of them, each with its code, its key within the schedule's table, and its place in a cron expression."""
    found = [*_form(spec), *_interval(spec), *_times(spec)]
    yield from found
    if spec.blackout and not found and always_dark(spec):
        yield ScheduleError("E0212", "the schedule never fires: every slot is within a blackout", "blackout")


def _times(spec: ScheduleSpec) -> Iterator[ScheduleError]:
    if spec.cron is not None:
        yield from _cron(spec.cron, "cron")
    unknown = list(_zone(spec.timezone))
    yield from unknown
    zone = "UTC" if unknown else spec.timezone
    yield from _limits(spec, zone)
    for index, blackout in enumerate(spec.blackout):
        yield from _blackout(blackout, f"blackout.{index}", zone)


def _form(spec: ScheduleSpec) -> Iterator[ScheduleError]:
    given = [form for form in FORMS if getattr(spec, form) is not None]
    if len(given) > 1:
        yield ScheduleError("E0214", f"expected one of every, cron, after, got {' and '.join(given)}", given[1])
    if not given:
        yield ScheduleError("E0206", "expected one of every, cron, after, got none", "")
    if spec.offset and given != ["every"]:
        yield ScheduleError("E0223", 'offset shifts an interval: it goes with "every" alone', "offset")
    if given == ["after"]:
        for key in ("starts", "ends", "blackout"):
            if getattr(spec, key):
                yield ScheduleError("E0223", f'{key} does not go with "after", which has no times of its own', key)


def _interval(spec: ScheduleSpec) -> Iterator[ScheduleError]:
    if spec.every is not None and (spec.every < SECOND or spec.every % SECOND):
        came = format_duration(spec.every)
        yield ScheduleError("E0215", f'every: expected whole seconds, at least "1s", got "{came}"', "every")
    if spec.offset % SECOND:
        came = format_duration(spec.offset)
        yield ScheduleError("E0215", f'offset: expected whole seconds, got "{came}"', "offset")


def _cron(text: str, field: str) -> Iterator[ScheduleError]:
    try:
        parse(text)
    except ScheduleError as error:
        error.field = field
        yield error


def _zone(name: str) -> Iterator[ScheduleError]:
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError):  # not there; no name at all; a folder, or too long for a file
        known = False
    else:
        known = name not in _MACHINES_OWN and not name.startswith(("posix/", "right/"))
    if not known:
        meant = did_you_mean(name, available_timezones())
        note = f'did you mean "{meant}"?' if meant else "an IANA name, e.g. Europe/Berlin"
        yield ScheduleError("E0213", f'timezone: "{name}" is not known', "timezone", note=note)


def _limits(spec: ScheduleSpec, zone: str) -> Iterator[ScheduleError]:
    if spec.starts and spec.ends and in_zone(spec.ends, zone) <= in_zone(spec.starts, zone):
        yield ScheduleError("E0223", f"ends ({spec.ends}) is not after starts ({spec.starts})", "ends")


def _blackout(spec: Blackout, field: str, zone: str) -> Iterator[ScheduleError]:
    form = (spec.start is not None, spec.end is not None, spec.cron is not None, spec.duration is not None)
    if form == (True, True, False, False) and spec.start and spec.end:
        if in_zone(spec.end, zone) <= in_zone(spec.start, zone):
            yield ScheduleError("E0223", f"to ({spec.end}) is not after from ({spec.start})", f"{field}.to")
    elif form == (False, False, True, True) and spec.cron is not None and spec.duration is not None:
        yield from _recurring(spec.cron, spec.duration, field)
    else:
        yield ScheduleError("E0223", "expected from and to, or cron and duration", field)


def _recurring(cron: str, duration: timedelta, field: str) -> Iterator[ScheduleError]:
    wrong = list(_cron(cron, f"{field}.cron"))
    yield from wrong
    if not wrong and len(parse(cron).minutes) > 1:
        message = 'a blackout opens at most once an hour: expected one minute, as in "0 22 * * *"'
        yield ScheduleError("E0223", message, f"{field}.cron")
    if not SECOND <= duration <= LONGEST_BLACKOUT or duration % SECOND:
        came = format_duration(duration)
        message = f'duration: expected whole seconds, "1s" to "31d", got "{came}"'
        yield ScheduleError("E0223", message, f"{field}.duration")
