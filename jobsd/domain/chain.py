"""The audit's chain: how entries and seals are hashed, and what is wrong with one that does not hold.

sql/core/0005_seal.sql seals with the same hashes; a test compares the two. Whoever wants to check an export on his own
needs no more than this: SHA-256 over JSON arrays as PostgreSQL writes them.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

ZEROS = "0" * 64  # the hash before the first seal


@dataclass(frozen=True, slots=True)
class Entry:
    """One act, in the very words that are hashed: `at` to the microsecond with Z, `detail` as PostgreSQL's jsonb."""

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

    @property
    def digest(self) -> bytes:
        fields = [self.tx, self.run, self.sequence, self.at, self.act, self.actor, self.job]
        return _sha256([*fields, self.fence, self.reason, self.detail])

    @property
    def place(self) -> tuple[int, int, int]:
        """Where it stands among the entries of its seal."""
        return (self.tx, self.run or 0, self.sequence)


@dataclass(frozen=True, slots=True)
class Seal:
    """One link. It covers every entry whose `tx` is at least `from_tx` and below `to_tx`; hashes are hexadecimal."""

    number: int
    from_tx: int
    to_tx: int
    entries: int
    sealer: str
    at: str
    previous: str
    hash: str

    def computed(self, digests: Iterable[bytes]) -> str:
        """The hash that it ought to have, by the digests of its entries in the order of their places."""
        fields = [self.number, self.from_tx, self.to_tx, self.entries, self.sealer, self.at, self.previous]
        return _sha256(fields, *digests).hex()


FIRST = Seal(0, 0, 0, 0, "", "", ZEROS, ZEROS)  # stands before the first one


@dataclass(frozen=True, slots=True)
class Found:
    """What is there now of a seal's entries: how many, and the hash that they give."""

    entries: int
    hash: str


def wrong_with(before: Seal, seal: Seal, found: Found) -> str | None:
    """What does not hold of `seal`, which stands next after `before`; None when all does."""
    if seal.number != before.number + 1:
        missing = f"{before.number + 1}" if seal.number == before.number + 2 else f"{before.number + 1} and others"
        return f"seal {missing} before it is gone"
    if seal.previous != before.hash or seal.from_tx != before.to_tx:
        return f"it does not follow seal {before.number} as that one is now" if before.number else "it is not the first"
    if more := found.entries - seal.entries:
        return f"{seal.entries} entries were sealed, {found.entries} are there: {_difference(more)}"
    if found.hash != seal.hash:
        return f"its {seal.entries} entries, or the seal itself, do not read as they did when they were sealed"
    return None


def _difference(more: int) -> str:
    count, what = abs(more), "added" if more > 0 else "removed"
    return f"{count} {'was' if count == 1 else 'were'} {what}"


def _sha256(fields: Sequence[object], *more: bytes) -> bytes:
    """Of the array's JSON and what follows it. Blanks and escapes are PostgreSQL's, which are Python's."""
    whole = hashlib.sha256(json.dumps(fields, ensure_ascii=False).encode())
    for each in more:
        whole.update(each)
    return whole.digest()
