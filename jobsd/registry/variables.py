"""Fills in `${VAR}` and `${VAR:-default}` inside strings, and secrets that a file or a systemd credential holds.

What is filled in is remembered as it was written, so that no dump, log or page shows the value.
"""

import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path as FilePath
from typing import Any

from jobsd.domain.errors import Problem
from jobsd.registry.files import shown
from jobsd.registry.positions import Path, dotted
from jobsd.registry.sources import Sources

VARIABLE = re.compile(r"\$\$\{|\$\{(?:([A-Za-z_][A-Za-z0-9_]*)(:-([^}]*))?\})?")
SECRETS: tuple[Path, ...] = (  # where { file = … } and { credential = … } may stand for a string; "*" is any name
    ("database", "url"),
    ("database", "direct_url"),
    ("alerts", "channels", "*", "url"),
    ("jobs", "*", "env", "*"),
    ("jobs", "*", "http", "headers", "*"),
)
TELLING = re.compile(  # names whose values are taken for secrets
    r"pass(word|wd|phrase|$)|secret|token|(?<!lock_)key$|credential|authori[sz]ation|cookie|dsn|_url$", re.IGNORECASE
)
LARGEST_SECRET = 64 * 1024


@dataclass
class Filling:
    """One pass over a tree. `written` holds what the file says wherever a value was filled in."""

    sources: Sources
    environ: Mapping[str, str]
    problems: list[Problem] = field(default_factory=list)
    written: dict[Path, str] = field(default_factory=dict)
    secrets: set[str] = field(default_factory=set)  # values that no output may show

    def fill(self, value: Any, path: Path = ()) -> Any:
        if path in self.sources.overrides:
            return value
        if isinstance(value, str):
            return self.text(value, path) if "${" in value else value
        if isinstance(value, Mapping):
            if is_secret(path):
                return self.secret(value, path)
            return {key: self.fill(inner, (*path, key)) for key, inner in value.items()}
        if isinstance(value, list):
            return [self.fill(inner, (*path, index)) for index, inner in enumerate(value)]
        return value

    def text(self, value: str, path: Path) -> str:
        """`value` with its variables filled in. One that is wrong or missing is a problem and stays as written."""

        def one(found: re.Match[str]) -> str:
            name, default = found[1], found[3]
            if found[0] == "$${":
                return "${"
            if not name:
                forms = "${NAME} or ${NAME:-default}; $${ stands for ${ itself"
                self.wrong("E0205", path, f"{dotted(path)}: expected {forms}")
                return found[0]
            given = self.environ.get(name)
            if given is None and default is None:
                way_out = f"set it, or give a default: ${{{name}:-…}}"
                self.wrong("E0209", path, f"{dotted(path)}: the variable {name} is not set", way_out)
            if given and TELLING.search(name):
                self.secrets.add(given)
            known = given or default if default is not None else given
            return found[0] if known is None else known

        self.written[path] = value
        return VARIABLE.sub(one, value)

    def secret(self, value: Mapping[str, Any], path: Path) -> Any:
        """What the file or credential holds, without the newline at its end. A wrong one stays as written."""
        match value:
            case {"file": str(name), **rest} if not rest:
                home = self.sources.find(path)
                file = (home[0].path.parent if home else FilePath()) / FilePath(name)
                return self.secret_file(file, value, path, private=True)
            case {"credential": str(name), **rest} if not rest:
                folder = self.environ.get("CREDENTIALS_DIRECTORY")
                if not folder:
                    why = f'{dotted(path)}: credential "{name}" is not there: CREDENTIALS_DIRECTORY is not set'
                    self.wrong("E0205", path, why, "systemd sets it for a unit with LoadCredential=")
                    return ""
                if "/" in name or name in ("", ".", ".."):
                    self.wrong("E0205", path, f'{dotted(path)}: expected a credential\'s name, got "{name}"')
                    return ""
                return self.secret_file(FilePath(folder, name), value, path, private=False)
        self.wrong("E0205", path, f'{dotted(path)}: expected text, {{ file = "PATH" }} or {{ credential = "NAME" }}')
        return ""

    def secret_file(self, file: FilePath, value: Mapping[str, Any], path: Path, *, private: bool) -> str:
        way, name = next(iter(value.items()))
        self.written[path] = f'{{ {way} = "{name}" }}'
        try:
            with file.open("rb") as opened:
                mode = stat.S_IMODE(file.stat().st_mode)
                content = opened.read(LARGEST_SECRET + 1)
            if private and mode & stat.S_IROTH:
                why = f"{dotted(path)}: anyone can read {shown(file)} (mode {mode:04o})"
                self.wrong("E0225", path, why, f"chmod 600 {shown(file)}")
            if len(content) > LARGEST_SECRET:
                self.wrong("E0205", path, f"{dotted(path)}: {shown(file)} is larger than {LARGEST_SECRET // 1024}KiB")
            secret = content.decode().rstrip("\r\n")
            self.secrets.add(secret)
            return secret
        except OSError as error:
            self.wrong("E0202", path, f"{dotted(path)}: cannot read {shown(file)}: {(error.strerror or '').lower()}")
        except UnicodeDecodeError:
            self.wrong("E0205", path, f"{dotted(path)}: {shown(file)} is not UTF-8 text")
        return ""

    def wrong(self, code: str, path: Path, message: str, *hints: str) -> None:
        self.problems.append(Problem(code, message, self.sources.place(path), hints=hints))


def is_secret(path: Path) -> bool:
    return any(
        len(path) == len(secret) and all(want in ("*", step) for want, step in zip(secret, path, strict=True))
        for secret in SECRETS
    )
