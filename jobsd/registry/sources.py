"""What the files, the chosen environment and the process's own variables say together, and where each value comes from.

Later layers go over earlier ones, key by key: the files, then `[environments.NAME]`, then variables and flags. What a
value must look like is not known here.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

from jobsd.domain.errors import Place, Problem, did_you_mean
from jobsd.domain.job import KINDS
from jobsd.registry.files import File, Part
from jobsd.registry.positions import Path

FORMS = ("every", "cron", "after")
SWITCHES: Mapping[str, tuple[Path, bool]] = {  # variable: the key it sets, and whether its value is a yes or no
    "DATABASE_URL": (("database", "url"), False),
    "JOBSD_ENABLED": (("daemon", "enabled"), True),
    "JOB_DRY_RUN": (("daemon", "dry_run"), True),
}
YES, NO = ("1", "true", "yes", "on"), ("0", "false", "no", "off")


class Override(NamedTuple):
    """A value that comes from outside the files, and the variable or flag that gave it."""

    value: Any
    origin: str


@dataclass(frozen=True)
class Sources:
    """The root file first. `overrides` are keyed by the path that they set."""

    files: Sequence[File]
    environment: str | None = None
    overrides: Mapping[Path, Override] = field(default_factory=dict)

    @property
    def root(self) -> File:
        return self.files[0]

    @cached_property
    def homes(self) -> Mapping[str, File]:
        """The file of each job."""
        found: dict[str, File] = {}
        for file in self.files:
            for name in table(file.data, ("jobs",)):
                found.setdefault(name, file)
        return found

    def overlays(self, environment: str | None) -> list[tuple[File, Mapping[str, Any]]]:
        """What each file has in `[environments.NAME]`, the latest last."""
        if environment is None:
            return []
        found = ((file, table(file.data, ("environments", environment))) for file in self.files)
        return [(file, over) for file, over in found if over]

    def merged(self, environment: str | None) -> dict[str, Any]:
        """Settings and jobs in one tree, as written: no variable filled in, no override of the process."""
        settings = {key: value for key, value in self.root.data.items() if key not in ("include", "environments")}
        tree: dict[str, Any] = {**settings, "jobs": {}}
        for name, file in self.homes.items():
            tree["jobs"][name] = file.data["jobs"][name]
        for _, over in self.overlays(environment):
            jobs = table(over, ("jobs",)).items()
            known = {name: job for name, job in jobs if name in self.homes and isinstance(job, Mapping)}
            tree = merge(tree, {**over, "jobs": known})
        return tree

    def find(self, path: Path, environment: str | None = None) -> tuple[File, Path] | None:
        """The file that decides on `path`, and the path in it. None for what no file says."""
        environment = environment or self.environment
        for file, over in reversed(self.overlays(environment)):
            if has(over, path):
                return file, ("environments", environment or "", *path)
        file = self.homes.get(str(path[1]), self.root) if path[:1] == ("jobs",) and path[1:] else self.root
        return (file, path) if has(file.data, path) else None

    def raw(self, path: Path) -> Any:
        """What the files say at `path`, nothing filled in; None where they say nothing."""
        if path in self.overrides or not (found := self.find(path)):
            return None
        value: Any = found[0].data
        for step in found[1]:
            value = value[step]
        return value

    def place(self, path: Path, part: Part = "value", within: tuple[int, int] | None = None) -> Place | None:
        """Where `path` is written, or the nearest table around it. None for what comes from outside the files."""
        if path in self.overrides:
            return None
        while path:
            if found := self.find(path):
                return found[0].place(found[1], part, within)
            path, part, within = path[:-1], "key", None
        return Place(self.root.name)

    def origin(self, path: Path) -> str:
        """The flag, variable or file:line that decides on `path`; else "default"."""
        if path in self.overrides:
            return self.overrides[path].origin
        if found := self.find(path):
            place = found[0].place(found[1], "key")
            return f"{place.file}:{place.line}"
        return "default"


def merge(below: Mapping[str, Any], over: Mapping[str, Any], path: Path = ()) -> dict[str, Any]:
    """`over` laid over `below`, table by table. Another kind of work or form of schedule replaces its rival."""
    result = dict(below)
    if path[:1] == ("jobs",) and len(path) == 2 and any(kind in over for kind in KINDS):
        result = {key: value for key, value in result.items() if key not in KINDS or key in over}
    if path[2:] == ("schedule",) and any(form in over for form in FORMS):
        result = {key: value for key, value in result.items() if key not in (*FORMS, "offset") or key in over}
    for key, value in over.items():
        old = result.get(key)
        tables = isinstance(old, Mapping) and isinstance(value, Mapping)
        result[key] = merge(table(result, (key,)), value, (*path, key)) if tables else value
    return result


def table(data: Mapping[str, Any], path: Path) -> Mapping[str, Any]:
    """The table at `path`; an empty one when there is none, or something else."""
    value: Any = data
    for step in path:
        value = value.get(step) if isinstance(value, Mapping) else None
    return value if isinstance(value, Mapping) else {}


def has(data: Any, path: Path) -> bool:
    for step in path:
        if isinstance(step, int):
            if not isinstance(data, list) or step >= len(data):
                return False
        elif not isinstance(data, Mapping) or step not in data:
            return False
        data = data[step]
    return True


def chosen(files: Sequence[File], environ: Mapping[str, str]) -> str | Problem | None:
    """The environment that JOBSD_ENVIRONMENT names, None for none, a problem when it is not declared."""
    name = environ.get("JOBSD_ENVIRONMENT")
    declared = list(dict.fromkeys(name for file in files for name in table(file.data, ("environments",))))
    if not name or name in declared:
        return name or None
    close = did_you_mean(name, declared)
    meant = f'  did you mean "{close}"?' if close else ""
    known = f"declared are: {', '.join(declared)}" if declared else f"declare it as [environments.{name}]"
    return Problem("E0222", f'JOBSD_ENVIRONMENT: there is no environment "{name}".{meant}', hints=(known,))


def from_outside(environ: Mapping[str, str], flags: Mapping[str, Any]) -> Iterator[tuple[Path, Override] | Problem]:
    """What variables and flags set, the flags last."""
    for name, (path, is_switch) in SWITCHES.items():
        value: Any = environ.get(name, "")
        if is_switch and value and value.lower() not in (*YES, *NO):
            yield Problem("E0205", f'{name}: expected 1 or 0, true or false, got "{value}"')
        elif value:
            yield path, Override(value.lower() in YES if is_switch else value, f"environment {name}")
    for key, value in flags.items():
        yield tuple(key.split(".")), Override(value, f"flag --{key.rpartition('.')[2].replace('_', '-')}")


def laid_over(tree: Mapping[str, Any], path: Path, value: Any) -> dict[str, Any]:
    """`tree` with `value` at `path`."""
    for step in reversed(path):
        value = {step: value}
    return merge(tree, value)
