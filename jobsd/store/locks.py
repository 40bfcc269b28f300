"""The lock session's connection: opening and proving it, taking and giving back advisory locks.

When to do so, and what a loss means for what runs, is decided in `engine.keeper`.
An advisory key is the id of a row, its class the oid of the row's table: nothing is hashed, nothing collides, and two
installations in one database do not meet. A run that is its own key is locked by its id in the bigint key space.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from jobsd.domain.errors import Exit, problem
from jobsd.store import pooler
from jobsd.store.db import Connection, Session, Unavailable, connect

# Server-side limits must exceed `adopt`, so that the server does not take the locks away from a node that still counts
# on them; the last three switch off what would end an idle session.
LIMITS: dict[str, str] = {
    "tcp_keepalives_idle": "5",
    "tcp_keepalives_interval": "3",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "15000",
    "client_connection_check_interval": "2000",
    "idle_session_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    "plan_cache_mode": "force_generic_plan",
}

VERSION = "SELECT current_setting('server_version_num')::integer"
CLASSES = """
    SELECT c.relname AS name, c.oid
      FROM pg_class c
      JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE n.nspname = $1 AND c.relname IN ('lock_key', 'node', 'run', 'fence')
"""
BACKEND = "SELECT pg_backend_pid()"
KEPT = "SELECT current_setting('plan_cache_mode') = $1"
# Shared, since several nodes may prove theirs at the same moment: when the server is back, all of them do.
PROVE = "SELECT pg_try_advisory_lock_shared($1, 0)"
SEEN = """
    SELECT EXISTS (
        SELECT FROM pg_locks
         WHERE locktype = 'advisory' AND pid = pg_backend_pid() AND classid = $1 AND objid = 0 AND objsubid = 2)
"""
DISPROVE = "SELECT pg_advisory_unlock_shared($1, 0)"

TRY_NODE = "SELECT pg_try_advisory_lock($1, $2)"
FREE_NODE = "SELECT pg_advisory_unlock($1, $2)"
HOLDER = """
    SELECT pid
      FROM pg_locks
     WHERE locktype = 'advisory' AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
       AND classid = $1 AND objid = $2 AND objsubid = 2 AND granted
"""
TERMINATE = "SELECT pg_terminate_backend($1)"
RETAKE = """
    SELECT key, own,
           CASE WHEN own THEN pg_try_advisory_lock(key) ELSE pg_try_advisory_lock($3, key::integer) END AS taken
      FROM unnest($1::bigint[], $2::boolean[]) AS wanted(key, own)
"""
UNLOCK = """
    SELECT count(*) FILTER (WHERE NOT freed)
      FROM (SELECT CASE WHEN own THEN pg_advisory_unlock(key) ELSE pg_advisory_unlock($3, key::integer) END AS freed
              FROM unnest($1::bigint[], $2::boolean[]) AS given(key, own)) AS each
"""
HELD = """
    SELECT CASE objsubid WHEN 1 THEN (classid::bigint << 32) | objid::bigint ELSE objid::bigint END AS key,
           objsubid = 1 AS own
      FROM pg_locks
     WHERE locktype = 'advisory' AND pid = pg_backend_pid() AND (objsubid = 1 OR classid = $1)
"""


@dataclass(frozen=True, slots=True)
class Key:
    """An advisory lock: of a `lock_key` row (`own` false) or of a run by its id in the bigint key space."""

    id: int
    own: bool


@dataclass(frozen=True, slots=True)
class Classes:
    """The oids of the tables whose rows are locked, as PostgreSQL's signed 32-bit lock classes; and the fence's."""

    lock_key: int
    node: int
    run: int
    fence: int

    def own(self, run_id: int) -> Key:
        """The key of a run that is its own. Ids that differ by 2**32 share one: harmless, they only wait."""
        return Key(_signed((self.run << 32) | (run_id & 0xFFFFFFFF), 64), True)


def _signed(number: int, bits: int) -> int:
    number &= (1 << bits) - 1
    return number - (1 << bits) if number >> (bits - 1) else number


@dataclass(frozen=True, slots=True)
class LockConnection:
    session: Session
    classes: Classes
    backend_pid: int
    server: Connection  # that of `session`

    def require_newest(self) -> None:
        """Raises `Unavailable` when this session's server is a former primary: a newer timeline has been seen."""
        if self.server.superseded:
            raise Unavailable(ConnectionError(f"a former primary, of timeline {self.server.timeline}"))


async def open_lock_connection(
    url: str, schema: str, application_name: str, deadline_s: float, *, alone: bool = False
) -> LockConnection:
    """Connect and prove that locks taken here stay here; `alone`: that no other connection has our backend, either.

    Raises `Unavailable`, or `JobsdError`: E0304 for a server that is too old, E0307 where a pooler is in
    between (it refuses our settings or drops them, or another backend answers), E0310 when a lock just taken is not to
    be seen.
    """
    waits_ms = round(0.8 * deadline_s * 1000)  # for a lock that somebody holds: less, so that the session stays
    limits = {**LIMITS, "lock_timeout": str(waits_ms)}
    con = await connect(url, application_name=application_name, settings=limits, pooled=False)
    session = Session(con, schema, deadline_s)
    try:
        await _require_version(session)
        rows = await session.fetch(CLASSES, schema)
        oids = {row["name"]: row["oid"] for row in rows}
        node, key = _signed(oids["node"], 32), _signed(oids["lock_key"], 32)
        classes = Classes(key, node, oids["run"], oids["fence"])
        lock = LockConnection(session, classes, await _prove(session, oids["node"], node), con)
        if alone:
            await _prove_alone(lock, url, application_name.replace("lock", "proof"))
        return lock
    except BaseException:
        con.terminate()
        raise


async def _require_version(session: Session) -> None:
    version = await session.fetchval(VERSION)
    if version < 140000:
        found = f"PostgreSQL {version // 10000} is too old: expected 14 or later"
        raise problem("E0304", found, exit_code=Exit.UNREACHABLE)


async def _prove_alone(lock: LockConnection, url: str, application_name: str) -> None:
    """Show that a connection that holds a transaction open has another backend than ours, and that ours stays.

    For poolers that hide all else.
    """
    con = await connect(url, application_name=application_name, pooled=False)
    try:
        async with Session(con, lock.session.schema, lock.session.timeout_s).transaction() as other:
            theirs = await other.fetchval(BACKEND)
            if theirs == lock.backend_pid or await lock.session.fetchval(BACKEND) != lock.backend_pid:
                raise pooler.no_session()
    finally:
        con.terminate()


async def _prove(session: Session, oid: int, lock_class: int) -> int:
    """Show that one backend, with our settings, answers all along, and that a lock is where it was put; its pid."""
    pids = {session.con.get_server_pid(), *[await session.fetchval(BACKEND) for _ in range(2)]}
    if len(pids) != 1 or not await session.fetchval(KEPT, LIMITS["plan_cache_mode"]):
        raise pooler.no_session()
    if not await session.fetchval(PROVE, lock_class) or not await session.fetchval(SEEN, oid):
        raise problem(
            "E0310",
            "the lock session could not be proved: a lock just taken is not in pg_locks",
            "another program may hold it, or a proxy stands between; set [database] direct_url",
            exit_code=Exit.UNREACHABLE,
        )
    await session.fetchval(DISPROVE, lock_class)
    (backend,) = pids
    return int(backend)


async def try_node(lock: LockConnection, node: int) -> bool:
    """Take the lock that stands for a whole node."""
    return bool(await lock.session.fetchval(TRY_NODE, lock.classes.node, node))


async def free_node(lock: LockConnection, node: int) -> None:
    await lock.session.fetchval(FREE_NODE, lock.classes.node, node)


async def terminate_holder(lock: LockConnection, node: int) -> int | None:
    """End the session that holds a node's lock; returns its backend's pid, None when nobody holds it."""
    pid: int | None = await lock.session.fetchval(HOLDER, lock.classes.node & 0xFFFFFFFF, node)
    if pid is not None:
        await lock.session.fetchval(TERMINATE, pid)
    return pid


async def retake(lock: LockConnection, keys: Iterable[Key]) -> set[Key]:
    """Try to take `keys` again in a new session; returns those that were."""
    wanted = list(keys)
    rows = await lock.session.fetch(RETAKE, [k.id for k in wanted], [k.own for k in wanted], lock.classes.lock_key)
    return {Key(row["key"], row["own"]) for row in rows if row["taken"]}


async def unlock(lock: LockConnection, keys: Iterable[Key]) -> int:
    """Give keys back; returns how many were not held, which is 0 unless something is wrong."""
    given = list(keys)
    return int(
        await lock.session.fetchval(UNLOCK, [k.id for k in given], [k.own for k in given], lock.classes.lock_key)
    )


async def held(lock: LockConnection) -> set[Key]:
    """The keys that this session holds according to the server."""
    rows = await lock.session.fetch(HELD, lock.classes.lock_key & 0xFFFFFFFF)
    return {Key(_signed(row["key"], 64), row["own"]) for row in rows}
