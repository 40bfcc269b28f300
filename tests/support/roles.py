"""sql/roles.sql applied by psql, as a DBA would, and logins that are members of its roles."""

import asyncio
from collections.abc import Mapping
from pathlib import Path

import asyncpg

from jobsd.embedded.binaries import installed
from tests.support.postgres import binaries

ROLES = Path(__file__).resolve().parents[2] / "sql" / "roles.sql"
LOGINS: Mapping[str, str] = {"app": "runtime", "client": "enqueuer", "report": "reader", "migrator": "owner"}


def tool(name: str) -> Path:
    """A program of the server's own version."""
    return (binaries() or installed()) / name


async def psql(url: str, *args: str) -> str:
    """Run psql on a database to its end; what it said. Fails with its complaint."""
    process = await asyncio.create_subprocess_exec(
        *(tool("psql"), "-X", "-q", "-d", url, *args),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await process.communicate()
    assert process.returncode == 0, said.decode()
    return said.decode()


async def granted(url: str, schema: str = "jobsd") -> None:
    """The roles and their grants, as they are after a migration."""
    await psql(url, "-v", f"schema={schema}", "-f", str(ROLES))


async def logins(url: str, schema: str = "jobsd") -> None:
    """One login for each role: `app`, `client`, `report`, `migrator`."""
    con = await asyncpg.connect(url)
    for login, role in LOGINS.items():
        await con.execute(f"CREATE ROLE {login} LOGIN IN ROLE {schema}_{role}")
    await con.close()


def as_login(url: str, login: str) -> str:
    """The same database for this login."""
    return url.replace("//postgres@", f"//{login}@")
