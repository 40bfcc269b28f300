"""Tokens for tests of whoever asks over TCP."""

from collections.abc import Mapping

from jobsd.domain.scope import Scope
from jobsd.operations import tokens
from jobsd.operations.tokens import TokenRequest
from jobsd.store.db import Db


async def token(db: Db, scope: Scope | str = Scope.ADMIN, name: str | None = None, expires: str | None = "1h") -> str:
    """A token of that scope, named for it."""
    asked = TokenRequest.model_validate({"name": name or f"a-{scope}-one", "scope": scope, "expires": expires})
    return (await tokens.create(db, asked, "test")).token


def bearer(secret: str) -> Mapping[str, str]:
    return {"Authorization": f"Bearer {secret}"}
