"""A folder with a configuration in it, and what its load says."""

from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent

import pytest

from jobsd.domain.errors import Exit, JobsdError
from jobsd.handlers import check_handlers
from jobsd.registry.load import Registry, load


@dataclass(frozen=True)
class Folder:
    """The working directory of one test."""

    path: Path

    def write(self, name: str, text: str) -> Path:
        file = self.path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(dedent(text).lstrip("\n"))
        return file

    def load(self, text: str | None = None, **environ: str) -> Registry:
        """Load jobsd.toml, written anew when `text` is given."""
        if text is not None:
            self.write("jobsd.toml", text)
        return load(None, environ, also=check_handlers)

    def mistakes(self, text: str | None = None, **environ: str) -> str:
        """What a load complains of, as a person sees it."""
        with pytest.raises(JobsdError) as refused:
            self.load(text, **environ)
        assert refused.value.exit_code == Exit.CONFIGURATION
        return str(refused.value)
