"""What a person may ask of the audit: its entries, whether its chain holds, and all of it to be checked elsewhere."""

from datetime import UTC, datetime, timedelta
from typing import Literal

from pydantic import BaseModel, Field

from jobsd.domain.chain import Entry, Seal, wrong_with
from jobsd.operations.pages import Page, cursor_of, foreign, number_of, word_of
from jobsd.operations.run_views import AuditView
from jobsd.store import audit, seal
from jobsd.store.audit import AuditFilter, Before
from jobsd.store.db import Db

STEP_SEALS = 200  # so much is checked for one answer, or so many entries
STEP_ENTRIES = 20_000
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
LAST_US = 2**57  # since then: in the year 6537


class ActView(AuditView):
    """One act of machine or person, of a run or of none."""

    run: int | None
    job: str | None


class SealView(BaseModel):
    """One link of the chain."""

    number: int
    from_tx: int
    to_tx: int = Field(description="it covers the entries whose tx is at least from_tx and below this")
    entries: int
    sealer: str = Field(description="the node that asked for it")
    at: str
    previous: str = Field(description="the hash of the seal before, hexadecimal")
    hash: str


class BreakView(BaseModel):
    """The first link that does not hold."""

    seal: int
    reason: str


class ChainView(BaseModel):
    """A stretch of the chain, checked; with the cursor the next one is."""

    seals: int = Field(description="how many hold, of this stretch")
    entries: int = Field(description="how many those cover")
    broken: BreakView | None
    head: SealView | None = Field(description="the latest seal: kept elsewhere, it proves later that none was replaced")
    unsealed: int = Field(description="entries since the latest seal; they are sealed about once a minute")
    unsealed_since: datetime | None
    cursor: str | None = Field(description="for the next stretch; null at the end, and where it is broken")


class EntryRecord(BaseModel):
    """An entry of the export, word for word."""

    record: Literal["entry"] = "entry"
    tx: int
    run: int | None
    sequence: int
    at: str
    act: str
    actor: str
    job: str | None
    fence: int | None
    reason: str | None
    detail: str | None
    digest: str = Field(description="SHA-256 of what was written, hexadecimal")
    masked: bool = Field(False, description="a secret was taken out: the digest does not fit the words")


class SealRecord(SealView):
    """A seal of the export: it follows the entries that it covers."""

    record: Literal["seal"] = "seal"


async def page(db: Db, wanted: AuditFilter, limit: int, cursor: str | None = None) -> Page[ActView]:
    """Entries, the latest first."""
    before = _before(cursor) if cursor else None
    rows = await audit.entries(db, wanted, before, limit + 1)
    items = [ActView.model_validate(dict(row)) for row in rows[:limit]]
    return Page(items=items, cursor=_after(items[-1]) if len(rows) > limit else None)


def _after(entry: ActView) -> str:
    micros = (entry.at - EPOCH) // timedelta(microseconds=1)
    return cursor_of("audit", f"{micros}:{entry.run or 0}:{entry.sequence}")


def _before(cursor: str) -> Before:
    try:
        micros, run, sequence = map(int, word_of("audit", cursor).split(":"))
    except ValueError:
        raise foreign() from None
    if not 0 <= micros < LAST_US or max(abs(run), abs(sequence)) > 2**62:
        raise foreign()
    at = EPOCH + timedelta(microseconds=micros)
    return Before(at, run, sequence)


async def verify(db: Db, cursor: str | None = None) -> ChainView:
    """Check the next stretch of the chain: all its entries are read and hashed anew."""
    after = number_of("seals", cursor) if cursor else 0
    before = await seal.numbered(db, after)
    links = await seal.links(db, after, STEP_SEALS, STEP_ENTRIES)
    broken = None if before else BreakView(seal=after, reason="it is gone since it was checked")
    seals = entries = 0
    for link, found in links:
        if before is None or (reason := wrong_with(before, link, found)):
            broken = broken or BreakView(seal=link.number, reason=reason or "")
            break
        before, seals, entries = link, seals + 1, entries + link.entries
    head = await seal.head(db)
    unsealed = await seal.unsealed(db, head)
    more = before is not None and head is not None and not broken and before.number < head.number
    return ChainView(
        seals=seals,
        entries=entries,
        broken=broken,
        head=None if head is None else _seal_view(head),
        unsealed=unsealed.entries,
        unsealed_since=unsealed.since,
        cursor=cursor_of("seals", before.number) if before and more else None,
    )


async def export(db: Db, limit: int, cursor: str | None = None) -> Page[EntryRecord | SealRecord]:
    """The whole audit from its beginning, in the order of sealing: each seal after its entries, at last what has none.

    What is written meanwhile comes too, as far as it is before the end.
    """
    number, place = _place(cursor) if cursor else (0, audit.START)
    items: list[EntryRecord | SealRecord] = []
    from_tx = await _end_of(db, number)
    while len(items) < limit:
        link = await seal.following(db, number)
        found = await audit.sealable(db, from_tx, link.to_tx if link else None, place, limit - len(items))
        items += [_entry_record(entry, digest) for entry, digest in found]
        place = found[-1][0].place if found else place
        if len(items) >= limit:
            break
        if link is None:
            return Page(items=items, cursor=None)
        items.append(SealRecord(**_seal_view(link).model_dump()))
        number, place, from_tx = link.number, audit.START, link.to_tx
    return Page(items=items, cursor=cursor_of("export", ":".join(map(str, (number, *place)))))


async def _end_of(db: Db, number: int) -> int:
    """Where the entries after this seal begin."""
    if (link := await seal.numbered(db, number)) is None:
        raise foreign()
    return link.to_tx


def _place(cursor: str) -> tuple[int, tuple[int, int, int]]:
    try:
        number, tx, run, sequence = map(int, word_of("export", cursor).split(":"))
    except ValueError:
        raise foreign() from None
    if max(map(abs, (number, tx, run, sequence))) > 2**62:
        raise foreign()
    return number, (tx, run, sequence)


def _seal_view(link: Seal) -> SealView:
    return SealView(
        number=link.number,
        from_tx=link.from_tx,
        to_tx=link.to_tx,
        entries=link.entries,
        sealer=link.sealer,
        at=link.at,
        previous=link.previous,
        hash=link.hash,
    )


def _entry_record(entry: Entry, digest: str) -> EntryRecord:
    return EntryRecord(
        tx=entry.tx,
        run=entry.run,
        sequence=entry.sequence,
        at=entry.at,
        act=entry.act,
        actor=entry.actor,
        job=entry.job,
        fence=entry.fence,
        reason=entry.reason,
        detail=entry.detail,
        digest=digest,
    )
