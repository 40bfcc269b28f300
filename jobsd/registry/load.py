"""From files to a registry: every step that can find mistakes is taken, and all of them are told at once."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path as FilePath
from typing import Any

from pydantic import ValidationError

from jobsd.domain.errors import Exit, JobsdError, Place, Problem
from jobsd.domain.job import JobDefinition, digest
from jobsd.domain.schedule import Schedule
from jobsd.registry import check, elsewhere, files, programs, sources, structure, wording
from jobsd.registry.contradictions import contradictions
from jobsd.registry.definition import define
from jobsd.registry.files import Part
from jobsd.registry.positions import Path
from jobsd.registry.settings import Settings
from jobsd.registry.sources import Sources
from jobsd.registry.variables import Filling

SQL_FILE = "file:"


@dataclass(frozen=True)
class Registry:
    """What the configuration says, checked. Jobs are in the order of the files."""

    jobs: Mapping[str, JobDefinition]
    settings: Settings
    files: tuple[FilePath, ...]
    environment: str | None
    hash: str
    schedules: Mapping[str, Schedule]
    sources: Sources = field(repr=False, compare=False)
    written: Mapping[Path, str] = field(repr=False, compare=False)  # as the files say it, where a value was filled in
    secrets: frozenset[str] = field(
        repr=False, compare=False
    )  # values from variables and files that no output may show

    def place(self, path: Path, part: Part = "value", within: tuple[int, int] | None = None) -> Place | None:
        """Where `path`, such as ("jobs", "backup", "params"), is written."""
        return self.sources.place(path, part, within)

    def public_settings(self) -> dict[str, Any]:
        """The settings as JSON; a secret is "**********"."""
        return self.settings.model_dump(mode="json", by_alias=True)


@dataclass(frozen=True)
class Draft:
    """The jobs as far as they are right, for checks that others make during the load."""

    jobs: Mapping[str, JobDefinition]
    sources: Sources

    def place(self, path: Path, part: Part = "value", within: tuple[int, int] | None = None) -> Place | None:
        return self.sources.place(path, part, within)


def load(
    path: FilePath | None,
    environ: Mapping[str, str],
    flags: Mapping[str, Any] | None = None,
    also: Callable[[Draft], Iterable[Problem]] | None = None,
) -> Registry:
    """Read and check the configuration at `path`, or the one that is found. `flags`: {"http.port": 9000}.

    `also` is a further check, as a rule `handlers.check_handlers`. Raises `JobsdError` with all mistakes of all files.
    """
    found = files.find(path, environ)
    if found is None:
        raise files.none_found()
    return _Loading(found, environ, flags or {}).registry(also)


class _Loading:
    """One load. Mistakes gather in `problems`; what hangs on a wrong value is left out of the later steps."""

    def __init__(self, path: FilePath, environ: Mapping[str, str], flags: Mapping[str, Any]) -> None:
        self.environ = environ
        self.problems: list[Problem] = []
        read = self.read(path)
        self.collect(structure.mistakes(read))
        environment = sources.chosen(read, environ)
        overrides = list(sources.from_outside(environ, flags))
        self.collect(one for one in (environment, *overrides) if isinstance(one, Problem))
        self.sources = Sources(
            read,
            environment if isinstance(environment, str) else None,
            dict(one for one in overrides if not isinstance(one, Problem)),
        )

    def collect(self, problems: Iterable[Problem]) -> None:
        self.problems.extend(problems)

    def read(self, path: FilePath) -> list[files.File]:
        read = [files.read(path)]
        for found in files.included(read[0]):
            if isinstance(found, Problem):
                self.problems.append(found)
                continue
            try:
                read.append(files.read(found))
            except JobsdError as error:
                self.collect(error.problems)
        return read

    def registry(self, also: Callable[[Draft], Iterable[Problem]] | None) -> Registry:
        tree = self.sources.merged(self.sources.environment)
        filling = Filling(self.sources, self.environ, self.problems)
        for path, override in self.sources.overrides.items():
            tree = sources.laid_over(tree, path, override.value)
        tree = filling.fill(tree)
        declared = tree.pop("jobs")
        settings = self.settings(tree)
        jobs = {name: job for name, table in declared.items() if (job := self.job(name, table, filling.written))}
        schedules = check.schedules(jobs, self.sources, self.problems)
        self.collect(check.across_jobs(jobs, declared, self.sources))
        self.collect(contradictions(jobs, self.sources))
        self.collect(programs.replaceable(jobs, self.sources, self.environ))
        self.collect(check.destinations(jobs, settings, self.sources))
        if settings is not None:
            self.collect(check.channels(jobs, settings, self.sources))
        self.collect(elsewhere.mistakes(self.sources.files, self.sources.environment))
        if also:
            self.collect(also(Draft(jobs, self.sources)))
        if self.problems or settings is None:
            raise JobsdError(tuple(_in_order(self.problems, self.sources.files)), Exit.CONFIGURATION)
        return Registry(
            jobs=jobs,
            settings=settings,
            files=tuple(file.path for file in self.sources.files),
            environment=self.sources.environment,
            hash=digest({name: job.hash for name, job in jobs.items()}),  # of what nodes should agree on
            schedules=schedules,
            sources=self.sources,
            written=filling.written,
            secrets=frozenset(filling.secrets),
        )

    def settings(self, tree: Mapping[str, Any]) -> Settings | None:
        try:
            settings = Settings.model_validate(tree)
        except ValidationError as error:
            self.collect(wording.problems_of(error, tree, (), self.sources))
            return None
        self.collect(check.of_settings(settings, self.sources))
        return settings

    def job(self, name: str, table: Any, written: Mapping[Path, str]) -> JobDefinition | None:
        path = ("jobs", name)
        if not isinstance(table, Mapping):
            return None  # told by `structure`
        if "name" in table:
            self.problems.append(wording.unknown_key((*path, "name"), self.sources))
        job = define(name, self.with_sql(name, table, written), self.sources, self.problems)
        if job and written:
            job.keep_as_written({key[2:]: text for key, text in written.items() if key[:2] == path})
        return job

    def with_sql(self, name: str, table: Mapping[str, Any], written: Mapping[Path, str]) -> Mapping[str, Any]:
        """`table` with the text of its SQL file, which counts from the file that names it."""
        sql = table.get("sql")
        if not isinstance(sql, str) or not sql.startswith(SQL_FILE):
            return table
        path = ("jobs", name, "sql")
        home = self.sources.find(path)
        file = (home[0].path.parent if home else FilePath()) / sql.removeprefix(SQL_FILE)
        try:
            if loose := files.open_to_all(file):
                message, way_out = loose.told(file, "whoever writes it decides what runs here")
                at = self.sources.place(path)
                self.problems.append(Problem("E0224", f"jobs.{name}.sql: {message}", at, hints=(way_out,)))
            return {**table, "sql": file.read_text()}
        except (OSError, UnicodeDecodeError) as error:
            reason = (error.strerror or "").lower() if isinstance(error, OSError) else "it is not UTF-8 text"
            message = f"jobs.{name}.sql: cannot read {files.shown(file)}: {reason}"
            self.problems.append(Problem("E0202", message, self.sources.place(path)))
            return {**table, "sql": ""}


def _in_order(problems: Iterable[Problem], read: Sequence[files.File]) -> list[Problem]:
    """Each problem once: those without a place, then by file, line and column."""
    rank = {file.name: number for number, file in enumerate(read)}

    def key(problem: Problem) -> tuple[int, int, int]:
        place = problem.place
        return (rank.get(place.file, len(rank)), place.line, place.column) if place else (-1, 0, 0)

    return sorted(dict.fromkeys(problems), key=key)
