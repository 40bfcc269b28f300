"""A pack: a folder of shipped jobs for one field. Found by its entry point in the group `jobsd.packs`."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Pack:
    """`name` is also the name of its folder in `sql/`, where its migrations and its own schema are."""

    name: str
    title: str
