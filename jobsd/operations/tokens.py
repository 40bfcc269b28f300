"""Tokens of the API: made, listed, revoked, and told apart by what they are shown. The secret is answered once."""

import hashlib
import hmac
import re
import secrets
from datetime import UTC, datetime, timedelta
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, computed_field

from jobsd.domain.duration import Span
from jobsd.domain.errors import Exit, problem
from jobsd.domain.scope import Scope
from jobsd.operations.pages import Page, cursor_of, word_of
from jobsd.operations.runs import Words
from jobsd.store import tokens
from jobsd.store.db import Db

PREFIX = "jobsd_"  # so that a token found in a file or a log is known for what it is
BITS = 256
USUAL = timedelta(days=90)
NAME = r"^[a-z0-9][a-z0-9._-]{0,62}$"
TOKEN = re.compile(rf"{PREFIX}[A-Za-z0-9_-]{{43}}")


class TokenRequest(BaseModel):
    """A token that is asked for."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, Field(strict=True, pattern=NAME)] = Field(
        description='stands in the audit as "token:NAME", so a name is used once and never again'
    )
    scope: Scope = Field(description="read, trigger, operate or admin; each may do what those before it may")
    expires: Span | None = Field(USUAL, description='after so long, "90d"; null: never')
    reason: Words | None = Field(None, description="why, for the audit")


class TokenView(BaseModel):
    """A token as it may be shown: without its secret, which nobody has but its owner."""

    name: str
    scope: Scope
    created_by: str
    created_at: datetime
    expires_at: datetime | None = Field(description="null: never")
    last_used_at: datetime | None = Field(description="to the minute")
    revoked_at: datetime | None
    revoked_by: str | None

    @computed_field  # type: ignore[prop-decorator]
    @property
    def state(self) -> Literal["good", "expired", "revoked"]:
        if self.revoked_at is not None:
            return "revoked"
        return "expired" if self.expires_at is not None and self.expires_at <= datetime.now(UTC) else "good"


class NewToken(TokenView):
    """A token that was just made."""

    token: str = Field(description="shown this once; only its hash is kept")


class Holder(BaseModel):
    """Who shows a token that counts."""

    name: str
    scope: Scope


async def create(db: Db, asked: TokenRequest, actor: str) -> NewToken:
    """Make a token. Raises E0526 for a name that was used before, also by a token since revoked."""
    token = PREFIX + secrets.token_urlsafe(BITS // 8)
    row = await tokens.create(
        db, asked.name, hashed(token), asked.scope.value, asked.expires, actor=actor, reason=asked.reason
    )
    if row is None:
        raise problem(
            "E0526",
            f'there is or was a token named "{asked.name}"',
            "a name stands in the audit for one token for ever: choose another",
            exit_code=Exit.CONFLICT,
        )
    return NewToken(**dict(row), token=token)


async def page(db: Db, limit: int, cursor: str | None = None) -> Page[TokenView]:
    """All tokens, revoked ones too, in the order of their names."""
    rows = await tokens.page(db, word_of("tokens", cursor) if cursor else None, limit + 1)
    items = [TokenView.model_validate(dict(row)) for row in rows[:limit]]
    return Page(items=items, cursor=cursor_of("tokens", items[-1].name) if len(rows) > limit else None)


async def revoke(db: Db, name: str, actor: str, reason: str | None) -> TokenView:
    """End a token at once; one that was revoked before stays as it is. Raises E0523."""
    row = await tokens.revoke(db, name, actor=actor, reason=reason) if re.fullmatch(NAME, name) else None
    if row is None:
        hint = "all of them: jobsd token list"
        raise problem("E0523", f'there is no token named "{name[:100]}"', hint, exit_code=Exit.NOT_FOUND)
    return TokenView.model_validate(dict(row))


async def holder(db: Db, token: str) -> Holder | None:
    """Whose token this is; None for one that is not known, has expired or was revoked.

    It is found by its hash in an index, whose time tells of a hash at most, which nobody turns back into a token;
    whether it is the one is compared here, in constant time.
    """
    digest = hashed(token)
    row = await tokens.use(db, digest) if TOKEN.fullmatch(token) else None
    if row is None or not hmac.compare_digest(row["hash"], digest) or row["revoked"] or row["expired"]:
        return None
    return Holder(name=row["name"], scope=row["scope"])


def hashed(token: str) -> bytes:
    """What is kept of a token. 256 random bits need no salt and no slow hash."""
    return hashlib.sha256(token.encode(errors="surrogateescape")).digest()
