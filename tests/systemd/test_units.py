"""What is shipped for systemd, judged by systemd's own tools."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SYSTEMD = Path(__file__).parents[2] / "systemd"
UNIT = SYSTEMD / "jobsd.service"
ANALYZE = shutil.which("systemd-analyze")
needs_analyze = pytest.mark.skipif(ANALYZE is None, reason="systemd-analyze is not installed")


def analyze(*args: str) -> subprocess.CompletedProcess[str]:
    assert ANALYZE
    return subprocess.run([ANALYZE, *args], capture_output=True, text=True, timeout=60)


def installed(folder: Path, *, profile: bool = False) -> Path:
    """The unit as it would be installed, with a program that is there in the place of jobsd's."""
    unit = folder / "jobsd.service"
    unit.write_text(UNIT.read_text().replace("/usr/local/bin/jobsd", sys.executable))
    if profile:
        shutil.copytree(SYSTEMD / "jobsd.service.d", folder / "jobsd.service.d")
    return unit


def settings(text: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        if "=" in line and not line.startswith("#"):
            key, _, value = line.partition("=")
            found.setdefault(key, []).append(value)
    return found


@needs_analyze
@pytest.mark.parametrize(("profile", "tenths"), [(False, 15), (True, 17)], ids=["default", "commands"])
def test_the_exposure_is_at_most_1_5_and_1_7_with_the_profile_for_commands(
    tmp_path: Path, profile: bool, tenths: int
) -> None:
    unit = installed(tmp_path, profile=profile)

    judged = analyze("security", "--offline=true", f"--threshold={tenths}", str(unit))
    too_strict = analyze("security", "--offline=true", "--threshold=5", str(unit))

    assert judged.returncode == 0, judged.stdout
    assert too_strict.returncode != 0  # the threshold is really looked at


@needs_analyze
@pytest.mark.parametrize("profile", [False, True], ids=["default", "commands"])
def test_systemd_finds_nothing_wrong_with_the_unit(tmp_path: Path, profile: bool) -> None:
    verified = analyze("verify", str(installed(tmp_path, profile=profile)))

    assert (verified.returncode, verified.stderr) == (0, "")


@pytest.mark.req("P12", "C8")
def test_the_unit_restarts_what_fails_but_not_what_no_restart_cures() -> None:
    unit = settings(UNIT.read_text())

    assert unit["Type"] == ["notify"]
    assert unit["Restart"] == ["on-failure"]
    assert unit["RestartPreventExitStatus"] == ["2 3 78"]
    assert unit["KillMode"] == ["mixed"]
    assert unit["OOMPolicy"] == ["continue"]
    assert "WatchdogSec" in unit


def test_no_secret_has_a_place_in_the_unit() -> None:
    unit = settings(UNIT.read_text())

    assert "Environment" not in unit
    assert unit["EnvironmentFile"] == ["-/etc/jobsd/environment"]


def run(*args: str) -> str:
    done = subprocess.run(args, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


@pytest.mark.skipif(shutil.which("systemd-sysusers") is None, reason="systemd-sysusers is not installed")
def test_the_user_is_made_without_a_shell(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()

    run("systemd-sysusers", f"--root={tmp_path}", str(SYSTEMD / "jobsd.sysusers"))

    (user,) = [line for line in (tmp_path / "etc/passwd").read_text().splitlines() if line.startswith("jobsd:")]
    assert user.endswith(":/var/lib/jobsd:/usr/sbin/nologin")


@pytest.mark.skipif(shutil.which("systemd-tmpfiles") is None, reason="systemd-tmpfiles is not installed")
def test_the_configuration_folder_is_made(tmp_path: Path) -> None:
    run("systemd-tmpfiles", f"--root={tmp_path}", "--create", str(SYSTEMD / "jobsd.tmpfiles"))

    assert (tmp_path / "etc/jobsd/jobs.d").is_dir()
    assert (tmp_path / "etc/jobsd").stat().st_mode & 0o777 == 0o755


UNDER_MDWE = """
import ctypes, mmap
libc = ctypes.CDLL(None, use_errno=True)
if libc.prctl(65, 1, 0, 0, 0) != 0:  # PR_SET_MDWE, from Linux 6.3 on
    raise SystemExit(77)
try:
    mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
except PermissionError:
    pass
else:
    raise SystemExit("writable and executable memory is still allowed")
import aiohttp, apprise, asyncpg, orjson, prometheus_client, pydantic, structlog, uvloop

class Model(pydantic.BaseModel):
    number: int

async def main():
    return Model.model_validate_json(orjson.dumps({"number": 1})).number

assert uvloop.run(main()) == 1
assert libc.prctl(36, 1, 0, 0, 0) == 0  # PR_SET_CHILD_SUBREAPER, as the guardian does
import jobsd.domain.job, jobsd.engine.alerter, jobsd.observe.channels, jobsd.observe.metrics
"""


def test_what_jobsd_needs_works_without_writable_and_executable_memory() -> None:
    child = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", UNDER_MDWE], capture_output=True, text=True, timeout=60
    )

    if child.returncode == 77:
        pytest.skip("this kernel cannot deny it (Linux 6.3 can)")
    assert child.returncode == 0, child.stderr
