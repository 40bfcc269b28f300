"""Tokens of the API: rows of `jobsd.api_token`, by their hash alone. What a scope allows is `domain.scope`'s part."""

from datetime import timedelta

from jobsd.store.db import Db, Row

CREATE = """
    WITH made AS (
        INSERT INTO jobsd.api_token (name, hash, scope, created_by, expires_at)
        VALUES ($2, $3, $4, $5, now() + $6::interval)
            ON CONFLICT (name) DO NOTHING
     RETURNING name, scope, created_by, created_at, expires_at, last_used_at, revoked_at, revoked_by
    ), told AS (
        INSERT INTO jobsd.audit (run, sequence, act, actor, reason, detail)
        SELECT NULL, nextval((quote_ident($1) || '.audit_sequence')::regclass), 'token_created', $5, $7,
               jsonb_build_object('token', name, 'scope', scope, 'expires_at', expires_at)
          FROM made
    )
    SELECT * FROM made
"""


async def create(
    db: Db, name: str, digest: bytes, scope: str, expires: timedelta | None, *, actor: str, reason: str | None
) -> Row | None:
    """Store a token's hash, for so long, with its audit entry; None when the name was used before, also if revoked."""
    return await db.fetchrow(CREATE, db.schema, name, digest, scope, actor, expires, reason)


ALL = """
    SELECT name, scope, created_by, created_at, expires_at, last_used_at, revoked_at, revoked_by
      FROM jobsd.api_token
     WHERE $1::text IS NULL OR name > $1
     ORDER BY name
     LIMIT $2
"""


async def page(db: Db, after: str | None, limit: int) -> list[Row]:
    """At most `limit` tokens in the order of their names, those after `after`."""
    return await db.fetch(ALL, after, limit)


REVOKE = """
    WITH gone AS (
        UPDATE jobsd.api_token
           SET revoked_at = now(), revoked_by = $3
         WHERE name = $2 AND revoked_at IS NULL
     RETURNING name, scope, created_by, created_at, expires_at, last_used_at, revoked_at, revoked_by
    ), told AS (
        INSERT INTO jobsd.audit (run, sequence, act, actor, reason, detail)
        SELECT NULL, nextval((quote_ident($1) || '.audit_sequence')::regclass), 'token_revoked', $3, $4,
               jsonb_build_object('token', name)
          FROM gone
    )
    SELECT * FROM gone
     UNION ALL
    SELECT name, scope, created_by, created_at, expires_at, last_used_at, revoked_at, revoked_by
      FROM jobsd.api_token
     WHERE name = $2 AND revoked_at IS NOT NULL
"""


async def revoke(db: Db, name: str, *, actor: str, reason: str | None) -> Row | None:
    """End a token, audited if it had not been before; as it is now, or None when there is none of that name."""
    return await db.fetchrow(REVOKE, db.schema, name, actor, reason)


USE = """
    WITH found AS (
        SELECT name, scope, hash, revoked_at IS NOT NULL AS revoked, coalesce(expires_at <= now(), false) AS expired
          FROM jobsd.api_token
         WHERE hash = $1
    ), used AS (
        UPDATE jobsd.api_token t
           SET last_used_at = now()
          FROM found f
         WHERE t.name = f.name AND NOT f.revoked AND NOT f.expired
           AND (t.last_used_at IS NULL OR t.last_used_at < now() - interval '1 minute')
    )
    SELECT name, scope, hash, revoked, expired FROM found
"""


async def use(db: Db, digest: bytes) -> Row | None:
    """The token with this hash, whether it was revoked or has expired; that it was used is noted once a minute."""
    return await db.fetchrow(USE, digest)
