"""Outcomes that the database cannot take just now, as files of the state directory, so that they outlive this process.

One file for each, whole or not there; it goes once its settlement is committed. What happens with the files that an
earlier start left, `settler` knows. A disk that is full, read-only or dead costs no more than that survival.
"""

import asyncio
import errno
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict
from datetime import datetime
from pathlib import Path

from pydantic import TypeAdapter

from jobsd.domain.events import Noted, Observe
from jobsd.store.history import Ended

ANSWER_S = 5.0  # a disk that takes longer holds nobody up
MOST_BYTES = 64 << 20  # of the whole folder, what was set aside too
_ENDED = TypeAdapter(Ended)


class Spool:
    """For the main loop; the disk is touched in a thread of its own, in the order of the calls."""

    def __init__(self, folder: Path, observe: Observe) -> None:
        self.error = ""  # why the latest could not be kept; empty when all could
        self._folder = folder
        self._observe = observe
        self._names: set[str] = set()
        self._disk = ThreadPoolExecutor(1, "jobsd spool")

    @property
    def kept(self) -> int:
        """How many are here."""
        return len(self._names)

    async def keep(self, ended: Iterable[Ended]) -> None:
        """Have each on the disk, synced, unless it is there. What could not be is told once, and in `error`."""
        new = {name: each for each in ended if (name := _name(each)) not in self._names}
        if not new:
            return
        self._names |= new.keys()
        writing = asyncio.wrap_future(self._disk.submit(self._write, new))
        await asyncio.wait({writing}, timeout=ANSWER_S)
        failed = writing.result() if writing.done() else dict.fromkeys(new, f"no answer within {ANSWER_S:g} s")
        self._names -= failed.keys()
        self._judge(next(iter(failed.values()), ""), len(failed))

    def drop(self, ended: Iterable[Ended]) -> None:
        """They are in the database now."""
        if gone := {_name(each) for each in ended} & self._names:
            self._names -= gone
            self._disk.submit(self._unlink, gone)

    async def left(self) -> list[Ended]:
        """What an earlier start left here. A file that cannot be read is set aside and told."""
        found, broken = await asyncio.wrap_future(self._disk.submit(self._read))
        for file, error in broken.items():
            self._observe(Noted("spooled_outcome_unreadable", "error", {"file": file, "error": error}))
        self._names |= {_name(each) for each in found}
        return found

    async def set_aside(self, ended: Sequence[Ended]) -> None:
        """They are nothing for this database: out of the way, for a person to look at."""
        names = [_name(each) for each in ended]
        self._names -= set(names)
        for name in names:
            await asyncio.wrap_future(self._disk.submit(self._put_aside, name, "foreign"))

    def _judge(self, error: str, outcomes: int) -> None:
        if error and not self.error:
            facts = {"folder": str(self._folder), "outcomes": outcomes, "error": error}
            self._observe(Noted("outcomes_not_spooled", "error", facts))
        elif not error:
            self._observe(Noted("outcomes_spooled", "warning", {"folder": str(self._folder), "kept": self.kept}))
        self.error = error

    # -- in the spool's thread --------------------------------------------------------------------------------------

    def _write(self, new: Mapping[str, Ended]) -> dict[str, str]:
        """Returns what failed, and why. Whatever that is: the others are kept, and the jobs go on."""
        failed = {}
        try:
            self._folder.mkdir(mode=0o700, exist_ok=True)
            room = MOST_BYTES - sum(file.stat().st_size for file in self._folder.iterdir())
            for name, ended in new.items():
                try:
                    room -= self._write_one(name, _json(ended), room)
                except Exception as error:
                    failed[name] = str(error)
            _sync(self._folder)
        except OSError as error:
            failed = dict.fromkeys(new, str(error))
        return failed

    def _write_one(self, name: str, data: bytes, room: int) -> int:
        """Whole, under its name, or not at all; how many bytes."""
        if len(data) > room:
            raise OSError(errno.EDQUOT, f"the spool may hold {MOST_BYTES >> 20} MiB")
        fresh = self._folder / f"{name}.new"
        try:
            with open(fresh, "wb", opener=_private) as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            fresh.rename(self._folder / name)
        except OSError:
            with suppress(OSError):
                fresh.unlink()
            raise
        return len(data)

    def _unlink(self, names: Iterable[str]) -> None:
        for name in names:
            with suppress(OSError):  # then it is written once more by the next start, and changes nothing
                (self._folder / name).unlink()

    def _read(self) -> tuple[list[Ended], dict[str, str]]:
        found, broken = [], {}
        for file in sorted(self._folder.iterdir()) if self._folder.is_dir() else []:
            if file.suffix == ".new":  # cut short; what it was for is not known to be over
                self._unlink([file.name])
            elif file.suffix == ".json":
                try:
                    found.append(_ENDED.validate_json(file.read_bytes()))
                except (OSError, ValueError) as error:
                    broken[str(file)] = str(error)
                    self._put_aside(file.name, "corrupt")
        return found, broken

    def _put_aside(self, name: str, why: str) -> None:
        with suppress(OSError):
            (self._folder / name).rename(self._folder / f"{name}.{why}")


def _sync(folder: Path) -> None:
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def _name(ended: Ended) -> str:
    return f"{ended.run.id}-{ended.run.fence}.json"


def _json(ended: Ended) -> bytes:
    """Half a character, which a job's output may hold, becomes a question mark, as in the database."""
    return json.dumps(asdict(ended), default=_plain, ensure_ascii=False).encode("utf-8", "replace")


def _plain(value: object) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
