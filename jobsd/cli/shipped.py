"""Where the files are that come with jobsd: in the wheel, or beside the package in a checkout."""

from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent


def config(name: str) -> Path:
    """A file of `config/`, such as "dev/jobsd.toml"."""
    inside = PACKAGE / "config"
    return (inside if inside.is_dir() else PACKAGE.parent / "config") / name
