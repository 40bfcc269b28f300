"""What a job raises, as an outcome: a steering exception steers, wherever it is found; anything else is a failure."""

from collections.abc import Iterator
from dataclasses import replace

from jobsd.domain.outcome import Cancelled, Deferred, Failed
from jobsd.engine.executors.words import clean, failure
from jobsd.sdk import Cancel, GiveUp, RetryLater

DEEPEST = 50  # causes and groups that are looked into
REASON_BYTES = 16 * 1024


def ended_by(error: BaseException, skip_frames: int = 0) -> Failed | Cancelled | Deferred:
    """What `error` makes of the attempt.

    Of a group every member counts: one that gives up outweighs all, and a plain failure outweighs a cancellation and a
    delay, so that no error is lost behind them. Of several delays the longest holds.
    """
    found = list(_steering(error, DEEPEST))
    if any(isinstance(each, GiveUp) for each in found):
        return replace(failure(error, skip_frames), kind=GiveUp.__name__, final=True)
    if None in found:
        return failure(error, skip_frames)
    cancelling = next((each for each in found if isinstance(each, Cancel)), None)
    if cancelling is not None:
        return Cancelled(_reason(cancelling, "the job says that it is not needed any more"))
    later = max((each for each in found if isinstance(each, RetryLater)), key=lambda each: each.delay)
    return Deferred(later.delay, _reason(later, "the job asked to be run later"))


def _steering(error: BaseException, depth: int) -> Iterator[Cancel | GiveUp | RetryLater | None]:
    """The steering exceptions in `error`; None for each plain failure in it."""
    if isinstance(error, Cancel | GiveUp | RetryLater):
        yield error
    elif depth and isinstance(error, BaseExceptionGroup):
        for each in error.exceptions:
            yield from _steering(each, depth - 1)
    elif depth and error.__cause__ is not None:
        yield from _steering(error.__cause__, depth - 1)
    else:
        yield None


def _reason(error: BaseException, otherwise: str) -> str:
    """The job's words: its own code makes them, so that anything may come."""
    try:
        said = str(error)
    except BaseException:
        said = ""
    return clean(said, REASON_BYTES).strip() or otherwise
