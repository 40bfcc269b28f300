"""A pack for tests of what serves packs: a shelf of books, in a schema of its own."""

import asyncio
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, SecretStr

from jobsd.sdk import Action, ActionContext, Column, Filter, Fit, Pack, Refuse, View
from jobsd.store.db import Db

ROOT = Path(__file__).parents[2]
SCHEMA = """
    CREATE SCHEMA shelf;
    CREATE TABLE shelf.book (
        id       bigint  PRIMARY KEY,
        title    text    NOT NULL,
        lent_to  text,
        weight_g numeric,
        bought   date    NOT NULL,
        seen_at  timestamptz NOT NULL DEFAULT '2026-03-01 12:00+00',
        facts    jsonb   NOT NULL DEFAULT '{}',
        CONSTRAINT nobody_borrows_for_nobody CHECK (lent_to <> 'nobody')
    );
    CREATE TABLE shelf.reader (name text PRIMARY KEY);
    ALTER TABLE shelf.book ADD CONSTRAINT only_readers_borrow
        FOREIGN KEY (lent_to) REFERENCES shelf.reader DEFERRABLE INITIALLY DEFERRED;
    CREATE FUNCTION shelf.keep() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN RAISE EXCEPTION 'the atlas is not lent'; END $$;
    CREATE TRIGGER the_atlas_stays BEFORE UPDATE ON shelf.book
        FOR EACH ROW WHEN (OLD.title = 'Atlas') EXECUTE FUNCTION shelf.keep();
    INSERT INTO shelf.reader VALUES ('bob'), ('nobody');
    INSERT INTO shelf.book (id, title, weight_g, bought, facts) VALUES
        (1, 'Atlas', 2500.5, '2026-01-01', '{"pages": 300}'), (2, 'Bread', NULL, '2026-01-02', '{}'),
        (3, 'Cats', 120, '2026-01-02', '{}'), (4, 'Dune', 410, '2026-01-03', '{}'),
        (5, 'Emma', 300, '2026-01-03', '{}');
"""


class Lend(BaseModel):
    model_config = ConfigDict(extra="forbid")
    book: int = Field(ge=1)
    to: str
    badge: SecretStr = SecretStr("")


async def lend(ctx: ActionContext, params: Lend) -> dict[str, Any]:
    row = await ctx.connection.fetchrow("SELECT title, lent_to FROM shelf.book WHERE id = $1", params.book)
    if row is None:
        raise Refuse(f"there is no book {params.book}")
    if row["lent_to"]:
        raise Refuse(f"{row['title']} is lent to {row['lent_to']}")
    await ctx.connection.execute("UPDATE shelf.book SET lent_to = $2 WHERE id = $1", params.book, params.to)
    return {"title": row["title"], "by": ctx.actor, "because": ctx.reason}


class Nothing(BaseModel): ...


async def burn(ctx: ActionContext, params: Nothing) -> None:
    await ctx.connection.execute("DELETE FROM shelf.book")
    raise RuntimeError("matches are wet")


async def leave(ctx: ActionContext, params: Nothing) -> None:
    await ctx.connection.execute("DELETE FROM shelf.book")
    raise SystemExit("that was that")


async def babble(ctx: ActionContext, params: Nothing) -> str:
    await ctx.connection.execute("DELETE FROM shelf.book")
    return "half a \ud800 pair"


async def ponder(ctx: ActionContext, params: Nothing) -> None:
    await ctx.connection.execute("DELETE FROM shelf.book")
    await asyncio.Event().wait()


async def slip_away(ctx: ActionContext, params: Nothing) -> None:
    """An action that ends its transaction itself."""
    await ctx.connection.execute("DELETE FROM shelf.book WHERE id = 5")
    await ctx.connection.execute("COMMIT")


BOOKS = View(
    name="books",
    title="Books",
    sql="SELECT *, lent_to IS NULL AS here FROM shelf.book -- all of them",
    columns=(
        Column("id", "integer"),
        Column("title"),
        Column("lent_to", title="reader"),
        Column("weight_g", "number"),
        Column("bought", "date"),
        Column("seen_at", "instant"),
        Column("facts", "json"),
        Column("here", "boolean"),
    ),
    key=("bought", "id"),
    filters=(
        Filter("title"),
        Filter("here"),
        Filter("since", "bought", "at_least"),
        Filter("heavier", "weight_g", "at_least"),
        Filter("until", "seen_at", "at_most"),
        Filter("id"),
    ),
    actions=(Fit("lend", {"book": "id"}, when="here"),),
)
WRITES = View("writes", "Writes", "SELECT nextval('shelf.crack') AS id", (Column("id", "integer"),), ("id",))
SHELF = Pack(
    "shelf",
    "Shelf",
    (BOOKS, WRITES),
    (
        Action("lend", "Lend", Lend, lend, "trigger"),
        Action("burn", "Burn", Nothing, burn, "admin"),
        Action("leave", "Leave", Nothing, leave),
        Action("babble", "Babble", Nothing, babble),
        Action("ponder", "Ponder", Nothing, ponder),
        Action("slip_away", "Slip away", Nothing, slip_away),
    ),
)


def install(folder: Path, name: str, where: str) -> None:
    """Put an entry point into `folder`, which is then to be in PYTHONPATH: what an installed distribution has."""
    info = folder / f"{name}-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n")
    (info / "entry_points.txt").write_text(f"[jobsd.packs]\n{name} = {where}\n")


async def build(db: Db) -> None:
    """Make its tables."""
    await db.execute(SCHEMA)
    await db.execute("CREATE SEQUENCE shelf.crack")
