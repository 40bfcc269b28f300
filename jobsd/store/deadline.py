"""Every call to the database with a deadline of its own that ends in `terminate()`, and what then is known of it."""

import asyncio
import os
import ssl
from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType
from typing import Any, TypeVar

import asyncpg
from asyncpg.transaction import Transaction

T = TypeVar("T")


class Unavailable(Exception):
    """The database could not do it just now; the same call may work later. `unknown` if it may have been done.

    `refused`: it does not know the user, the password or the database, and lets nobody in until somebody mends that.
    """

    def __init__(self, cause: BaseException, *, unknown: bool = False) -> None:
        super().__init__(_told(cause))
        self.unknown = unknown
        self.blocked = isinstance(cause, asyncpg.LockNotAvailableError)  # somebody holds a row or table for too long
        self.refused = isinstance(
            cause, (asyncpg.InvalidAuthorizationSpecificationError, asyncpg.InvalidCatalogNameError)
        )


def _told(cause: BaseException) -> str:
    """What the operating system says in its own words ("connection refused"), all else with the error's name."""
    numbered = isinstance(cause, OSError) and not isinstance(cause, ssl.SSLError)  # whose numbers are its own
    if isinstance(cause, OSError) and numbered and cause.errno and cause.strerror:
        words = cause.strerror if cause.errno < 0 else os.strerror(cause.errno)  # below 0: a name not resolved
        return words[0].lower() + words[1:]
    return f"{type(cause).__name__}: {cause}" if str(cause) else type(cause).__name__


class ReadOnly(Unavailable):
    """No server takes writes just now: standbys, former primaries, or `default_transaction_read_only`."""


# SQLSTATE classes that pass: connection, resources, operator intervention, deadlock, system, internal (a full disk)
_PASSING = ("08", "53", "57P", "40001", "40P01", "58", "XX000", "25006", "57014", "55P03")


def is_passing(error: BaseException) -> bool:
    """Whether an error of the driver may be gone at the next try."""
    if isinstance(error, asyncpg.InvalidCachedStatementError):  # a migration has changed what it gives
        return True
    if isinstance(error, asyncpg.PostgresError):
        return str(error.sqlstate or "").startswith(_PASSING)
    lost = (OSError, asyncpg.InterfaceError, asyncpg.InternalClientError, TimeoutError, asyncio.IncompleteReadError)
    return isinstance(error, lost)  # InternalClientError: told that the server ends it, not yet that it is closed


async def bounded(con: asyncpg.Connection, timeout_s: float, call: Callable[..., Awaitable[T]], *args: Any) -> T:
    """Await `call(*args)` on `con` for `timeout_s` seconds at the most; past that, or cancelled, the connection is cut.

    Raises `Unavailable` for what may be gone at the next try; every other error of the driver as it is. The call is
    made in here: on a connection that is closed the driver complains before there is anything to await.
    """

    async def work() -> T:
        return await call(*args)

    task = asyncio.create_task(work())
    try:
        await asyncio.wait({task}, timeout=timeout_s)
        return answer(task, f"no answer within {timeout_s:g} s")
    except asyncio.CancelledError:
        _cut(con, task)
        raise
    except Exception as error:
        if not task.done():
            _cut(con, task)
        if isinstance(error, asyncpg.ReadOnlySQLTransactionError):
            con.terminate()  # where nothing can be written is no place to stay: the next one asks every host
        told = isinstance(error, asyncpg.PostgresError)
        if is_passing(error) or (con.is_closed() and not told):  # then the driver's complaint may be any
            raise Unavailable(error, unknown=not told) from error
        raise


def answer(task: "asyncio.Task[T]", late: str) -> T:
    """What the driver's call came to. Cancelled in the driver, it must not look as if its caller were cancelled."""
    if not task.done():
        raise TimeoutError(late)
    if task.cancelled():
        raise ConnectionError("the driver has given it up")
    return task.result()


async def begun(con: asyncpg.Connection, how: Mapping[str, Any] = MappingProxyType({})) -> Transaction:
    """A transaction, begun. `how`: the driver's isolation, readonly."""
    block = con.transaction(**how)
    await block.start()
    return block


def _cut(con: asyncpg.Connection, task: "asyncio.Future[Any]") -> None:
    con.terminate()
    task.cancel()
    task.add_done_callback(lambda late: late.cancelled() or late.exception())
