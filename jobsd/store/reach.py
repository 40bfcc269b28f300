"""What to tell when there is no database, or none that answers. Never a password."""

from urllib.parse import parse_qs, unquote, urlsplit

from jobsd.domain.errors import Exit, JobsdError, problem
from jobsd.store.db import ReadOnly, Unavailable


def no_database(file: str | None) -> JobsdError:
    """E0301, saying where one was looked for."""
    return problem(
        "E0301",
        "no database is configured",
        f"set DATABASE_URL, or [database] url in {file or 'jobsd.toml'}, or use: jobsd dev",
        f"looked in: environment{f', {file}' if file else ''}",
        exit_code=Exit.CONFIGURATION,
    )


def cannot_reach(url: str, error: Unavailable, tries: int, spent_s: float) -> JobsdError:
    """E0303 when we are not let in, E0304 when all there is is read-only; else E0302. Never with the password."""
    if error.refused:
        return problem("E0303", f"PostgreSQL refuses the connection: {error.__cause__}", exit_code=Exit.UNREACHABLE)
    effort = "tried once" if tries == 1 else f"tried {tries} times in {spent_s:.0f} s"
    if isinstance(error, ReadOnly):
        return problem(
            "E0304",
            f"no server at {describe_url(url)} takes writes: {error}, {effort}",
            "name the primary in the URL, or every server that may become it: host1:5432,host2:5432",
            exit_code=Exit.UNREACHABLE,
        )
    return problem(
        "E0302",
        f"cannot reach PostgreSQL at {describe_url(url)}: {error}, {effort}",
        exit_code=Exit.UNREACHABLE,
    )


def describe_url(url: str) -> str:
    """A URL for people: "db1:5432/app (user jobsd)". Without password and options."""
    parts = urlsplit(url)
    options = parse_qs(parts.query)
    host = parts.netloc.rpartition("@")[2] or ",".join(options.get("host", ["local socket"]))
    user = unquote(parts.username or "") or ",".join(options.get("user", [])) or "default"
    return f"{unquote(host)}/{parts.path.lstrip('/') or user} (user {user})"
