"""What has happened between two looks, and what of it each follower is told. When to look is `feed`'s to decide."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import groupby
from operator import itemgetter

from pydantic import BaseModel, Field

from jobsd.domain.run import RunId, RunState
from jobsd.operations.run_views import AuditView, MessageView, ProgressView, RunSummary
from jobsd.store import feed, lists
from jobsd.store.db import Row, Session
from jobsd.store.feed import Stretch

MOST = 2000  # moves, and messages, that one look tells; past it a follower is told to read anew

# States that an act leads out of; one that is not here may lead out of any.
LEAVES: Mapping[str, frozenset[RunState]] = {
    **dict.fromkeys(("queued", "refused"), frozenset()),
    "started": frozenset({RunState.QUEUED}),
    **dict.fromkeys(("completed", "failed", "force_failed", "retry", "requeued"), frozenset({RunState.RUNNING})),
}


class Gone(BaseModel):
    """A run that is not in the followed list any more, or never was; a followed run that was deleted."""

    id: int


class Reset(BaseModel):
    """What a follower knows may be out of date."""

    reason: str = Field(description="read the list, or the run, anew; the stream goes on")


@dataclass(frozen=True, slots=True)
class Told:
    """One event: `run`, `gone`, `move`, `message`, `progress` or `reset`, with what it tells."""

    name: str
    view: BaseModel


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is followed: one run, or those of a list; an empty field does not narrow."""

    run: RunId | None = None
    job: str | None = None
    states: frozenset[RunState] = frozenset()
    tags: Mapping[str, str] = field(default_factory=dict)

    def holds(self, job: str, tags: Mapping[str, str]) -> bool:
        return self.job in (None, job) and self.tags.items() <= tags.items()


@dataclass(frozen=True, slots=True)
class News:
    """All that anybody who follows may want to know. `moves` is None when there were too many."""

    moves: Mapping[int, frozenset[str]] | None  # run to acts, of followed lists
    runs: Mapping[int, RunSummary]  # as they are now; deleted ones are missing
    entries: Mapping[int, Sequence[AuditView]]  # of followed runs
    messages: Mapping[int, Sequence[MessageView]]  # likewise; empty with `flooded`
    progress: Mapping[int, ProgressView]
    flooded: bool = False


TOO_MANY = Told("reset", Reset(reason=f"more than {MOST} moves at once"))
FLOODED = Told("reset", Reset(reason=f"more than {MOST} messages at once"))


async def gather(session: Session, stretch: Stretch, wanted: Sequence[Wanted], advanced: Iterable[RunId] = ()) -> News:
    """Read the stretch for everybody at once. `advanced` are runs of lists that may have told of their progress."""
    lists_ = [each for each in wanted if each.run is None]
    followed = sorted({each.run for each in wanted if each.run is not None})
    moves: Mapping[int, frozenset[str]] | None = {}
    entries: Mapping[int, list[Row]] = {}
    said: Sequence[Row] = ()
    if not stretch.empty and lists_:
        moves = await _moves(session, stretch, lists_)
    if not stretch.empty and followed:
        entries = _by_run(await feed.entries(session, stretch, followed))
        said = await feed.messages(session, stretch, followed, MOST + 1)
    far = await feed.progress(session, sorted({*followed, *advanced})) if followed or advanced else []
    ids = {*(moves or ()), *entries, *(row["run"] for row in far)}
    rows = await lists.runs_by_id(session, sorted(ids)) if ids else []
    flooded = len(said) > MOST
    return News(
        moves=moves,
        runs={row["id"]: RunSummary.model_validate(dict(row)) for row in rows},
        entries={run: [AuditView.model_validate(dict(row)) for row in of_it] for run, of_it in entries.items()},
        messages={} if flooded else _messages(said),
        progress={row["run"]: ProgressView.model_validate(dict(row)) for row in far},
        flooded=flooded,
    )


async def _moves(session: Session, stretch: Stretch, wanted: Sequence[Wanted]) -> Mapping[int, frozenset[str]] | None:
    jobs = {each.job for each in wanted}
    rows = await feed.moved(session, stretch, None if None in jobs else sorted(filter(None, jobs)), MOST)
    return None if rows is None else {row["run"]: frozenset(row["acts"]) for row in rows}


def _by_run(rows: Iterable[Row]) -> dict[int, list[Row]]:
    return {run: list(of_it) for run, of_it in groupby(rows, key=lambda row: int(row["run"]))}


def _messages(rows: Iterable[Row]) -> dict[int, list[MessageView]]:
    found: defaultdict[int, list[MessageView]] = defaultdict(list)
    for row in rows:
        found[row["run"]].append(MessageView.model_validate(dict(row)))
    return found


def told(wanted: Wanted, news: News, shown: Mapping[int, datetime | None]) -> list[Told]:
    """What of the news this follower is told. `shown` is how far each run was when it was told last."""
    return list(_of_run(wanted.run, news, shown) if wanted.run is not None else _of_list(wanted, news, shown))


def _of_run(run: RunId, news: News, shown: Mapping[int, datetime | None]) -> Iterator[Told]:
    """Moves and messages in the order of time, then how far it is, then what it has become."""
    if news.flooded:
        yield FLOODED
    moves = [(entry.at, Told("move", entry)) for entry in news.entries.get(run, ())]
    said = [(message.at, Told("message", message)) for message in news.messages.get(run, ())]
    yield from (event for _, event in sorted([*moves, *said], key=itemgetter(0)))
    if (far := news.progress.get(run)) and shown.get(run) != far.at:
        yield Told("progress", far)
    if moves:
        yield _standing(run, news)


def _of_list(wanted: Wanted, news: News, shown: Mapping[int, datetime | None]) -> Iterator[Told]:
    if news.moves is None:
        yield TOO_MANY
    for run, acts in (news.moves or {}).items():
        now = news.runs.get(run)
        if now is not None and not wanted.holds(now.job, now.tags):
            continue
        if now is not None and (not wanted.states or now.state in wanted.states):
            yield Told("run", now)
        elif not wanted.states or any(wanted.states & LEAVES.get(act, wanted.states) for act in acts):
            yield Told("gone", Gone(id=run))
    for run, far in news.progress.items():
        now = news.runs.get(run)
        listed = (
            now is not None and wanted.holds(now.job, now.tags) and (not wanted.states or far.state in wanted.states)
        )
        if listed and shown.get(run) != far.at:
            yield Told("progress", far)


def _standing(run: int, news: News) -> Told:
    now = news.runs.get(run)
    return Told("gone", Gone(id=run)) if now is None else Told("run", now)
