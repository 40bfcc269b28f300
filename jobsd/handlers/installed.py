"""The packs that are installed, found by their entry points."""

from functools import cache
from importlib.metadata import entry_points

from jobsd.domain.errors import Exit, problem
from jobsd.sdk import Pack

GROUP = "jobsd.packs"


@cache
def packs() -> tuple[Pack, ...]:
    """The installed packs, by name, found once. Raises E0231 for one that cannot be imported."""
    found = list[Pack]()
    for entry in sorted(entry_points(group=GROUP), key=lambda entry: entry.name):
        try:
            found.append(entry.load())
        except (Exception, SystemExit) as error:
            text = f'pack "{entry.name}" ({entry.value}) cannot be imported: {type(error).__name__}: {error}'
            raise problem("E0231", text, exit_code=Exit.CONFIGURATION) from error
    return tuple(found)
