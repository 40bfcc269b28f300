"""A working directory to put a configuration in."""

from pathlib import Path

import pytest

from tests.support.registry import Folder


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Folder:
    monkeypatch.chdir(tmp_path)
    return Folder(tmp_path)
