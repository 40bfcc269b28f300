"""What a handler gets besides its parameters: who it is, and how it reports. Shapes only; the engine provides them."""

from collections.abc import AsyncIterable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from datetime import datetime
from typing import Any, Protocol


class Connection(Protocol):
    """A PostgreSQL connection of the job's own, with the calls of asyncpg. `jobsd.fence` is set in its session."""

    async def execute(self, query: str, *args: Any, timeout: float | None = None) -> str: ...
    async def executemany(
        self, command: str, args: Iterable[Sequence[Any]], *, timeout: float | None = None
    ) -> None: ...
    async def fetch(self, query: str, *args: Any, timeout: float | None = None) -> list[Any]: ...
    async def fetchrow(self, query: str, *args: Any, timeout: float | None = None) -> Any: ...
    async def fetchval(self, query: str, *args: Any, column: int = 0, timeout: float | None = None) -> Any: ...
    async def copy_records_to_table(
        self,
        table_name: str,
        *,
        records: Iterable[Sequence[Any]] | AsyncIterable[Sequence[Any]],
        columns: Sequence[str] | None = None,
        schema_name: str | None = None,
        timeout: float | None = None,
    ) -> str: ...
    def transaction(self, *, isolation: Any = None, readonly: bool = False) -> AbstractAsyncContextManager[Any]: ...


class Identity(Protocol):
    """Which execution this is."""

    @property
    def job(self) -> str: ...
    @property
    def run_id(self) -> int: ...
    @property
    def attempt(self) -> int: ...
    @property
    def fence(self) -> int: ...
    @property
    def slot_at(self) -> datetime | None: ...
    @property
    def dry_run(self) -> bool: ...
    @property
    def params(self) -> Mapping[str, Any]: ...
    @property
    def idempotency_key(self) -> str: ...
    def now(self) -> datetime:
        """What time it is, UTC. In a test it is the test's own clock (`jobsd.sdk.testing`)."""


class Transaction(Connection, Protocol):
    """A connection inside the one transaction that also completes the run. `result` is the run's: JSON, or None."""

    result: Any


class SyncTransaction(Protocol):
    """The same for a plain function."""

    result: Any

    def execute(self, query: str, *args: Any) -> str: ...
    def executemany(self, command: str, args: Iterable[Sequence[Any]]) -> None: ...
    def fetch(self, query: str, *args: Any) -> list[Any]: ...
    def fetchrow(self, query: str, *args: Any) -> Any: ...
    def fetchval(self, query: str, *args: Any, column: int = 0) -> Any: ...


class Step(Protocol):
    """One step of a pipeline, under way."""

    async def progress(self, fraction: float, note: str = "") -> None:
        """Tell how far the step is, 0 to 1."""


class Pipeline(Protocol):
    """Steps with weights: how far the run is follows from how far they are."""

    def step(self, name: str) -> AbstractAsyncContextManager[Step]:
        """Be in a step for the block; left without an error, it is done. Raises `ValueError` for an unknown name."""


class SyncStep(Protocol):
    def progress(self, fraction: float, note: str = "") -> None: ...


class SyncPipeline(Protocol):
    def step(self, name: str) -> AbstractContextManager[SyncStep]: ...


class JobContext(Identity, Protocol):
    """For an async handler. Every report names the attempt's fence and is refused when the run has moved on."""

    async def progress(self, fraction: float, note: str = "") -> None:
        """Tell how far it is, 0 to 1. Cheap: the latest is written a few times a second at the most.

        Raises `ProgressRefused` where the job is atomic, or declares that it shows none.
        """

    def pipeline(self, weights: Mapping[str, float]) -> Pipeline:
        """Declare steps and their weights: `{"load": 1, "condense": 8, "store": 1}`. Raises `ProgressRefused`."""

    async def heartbeat(self) -> None:
        """Tell that it lives, where there is nothing else to tell for long. Cheap, and always taken."""

    async def info(self, text: str) -> None: ...
    async def warning(self, text: str) -> None: ...
    async def error(self, text: str) -> None: ...

    def connect(self) -> AbstractAsyncContextManager[Connection]:
        """Open a connection of the job's own to jobsd's database; closed at the end of the block, whatever happens."""

    def transaction(self) -> AbstractAsyncContextManager[Transaction]:
        """Write so that the effect happens exactly once: at the end of the block, rows, result and completion of the
        run are committed together, guarded by its fence; all or nothing. It is to be the last thing a handler does.

        An exception undoes it and the run is settled as usual. In a dry run it is always undone. Raises `FenceLost`
        when the run has moved on, at the begin or at the end of the block.
        """


class SyncJobContext(Identity, Protocol):
    """For a plain function, in its child process. What each call does, `JobContext` says."""

    def progress(self, fraction: float, note: str = "") -> None: ...
    def pipeline(self, weights: Mapping[str, float]) -> SyncPipeline: ...
    def heartbeat(self) -> None: ...
    def info(self, text: str) -> None: ...
    def warning(self, text: str) -> None: ...
    def error(self, text: str) -> None: ...
    def transaction(self) -> AbstractContextManager[SyncTransaction]: ...
