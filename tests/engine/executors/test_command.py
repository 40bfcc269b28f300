"""Commands: how each of their ends becomes an outcome, what is kept of their output, what they are given."""

import os
import resource
import sys
from pathlib import Path

import pytest

from jobsd.engine.executors.base import execute
from tests.engine.executors.bench import Bench, completed, failed, output

KIB = 1024
MIB = 1024 * KIB


@pytest.mark.req("C2")
async def test_exit_0_completes_the_run_with_output_and_usage(bench: Bench) -> None:
    outcome = completed(await execute(bench.execution(command=["sh", "-c", "echo out; echo err >&2; echo end"])))

    assert outcome.result == {"exit_code": 0}
    assert outcome.usage.output == "out\nerr\nend\n"
    assert outcome.usage.exit_code == 0


@pytest.mark.req("C2", "B8")
async def test_another_exit_code_fails_the_run_and_says_the_last_lines(bench: Bench) -> None:
    outcome = failed(await execute(bench.execution(command=["sh", "-c", "seq 100; echo it broke >&2; exit 3"])))

    assert outcome.kind == "exit"
    assert outcome.error.startswith("exited with 3\n92\n")
    assert outcome.error.endswith("100\nit broke")
    assert outcome.usage.exit_code == 3


@pytest.mark.req("C2")
@pytest.mark.parametrize("number, name", [(9, "SIGKILL"), (11, "SIGSEGV"), (15, "SIGTERM"), (40, "signal 40")])
async def test_a_signal_fails_the_run_by_its_name(bench: Bench, number: int, name: str) -> None:
    outcome = failed(await execute(bench.execution(command=["sh", "-c", f"kill -{number} $$"])))

    assert outcome.kind == "signal"
    assert outcome.error.startswith(f"was killed by {name}")
    assert outcome.usage.exit_code is None


@pytest.mark.req("C2", "B8")
async def test_what_cannot_start_says_why(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "script").write_text("#!/bin/sh\n")
    (tmp_path / "noshebang").write_text("\x7fELF no")
    (tmp_path / "noshebang").chmod(0o755)

    async def said(*argv: str, cwd: str | None = None) -> str:
        outcome = failed(await execute(bench.execution(command=argv, cwd=cwd)))
        assert outcome.kind == "start"
        return outcome.error

    assert 'cannot start: "no-such-program" was not found in PATH (' in await said("no-such-program")
    assert f'"{tmp_path}/absent" was not found' in await said(f"{tmp_path}/absent")
    assert "permission denied" in await said(f"{tmp_path}/script")
    assert "is not a program" in await said(f"{tmp_path}/noshebang")
    assert 'the folder "/no/such/folder" does not exist' in await said("true", cwd="/no/such/folder")
    assert "U+0000" in await said("echo", "a\0b")


@pytest.mark.req("C2")
@pytest.mark.fault(53)
async def test_a_command_runs_in_its_folder_without_a_shell_and_without_input(bench: Bench, tmp_path: Path) -> None:
    pwd = await execute(bench.execution(command=["pwd"], cwd=str(tmp_path)))
    echo = await execute(bench.execution(command=["echo", "$HOME", "a b", "*"]))
    cat = await execute(bench.execution(command=["cat"]))

    assert output(pwd) == f"{tmp_path}\n"
    assert output(echo) == "$HOME a b *\n"
    assert output(cat) == ""


@pytest.mark.req("P4")
@pytest.mark.fault(51)
async def test_the_environment_is_the_documented_one_and_no_secret_of_the_daemon_leaks(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in list(os.environ):
        monkeypatch.delenv(name)
    passed = {"PATH": "/usr/bin:/bin", "HOME": "/tmp", "LANG": "C", "LC_ALL": "C", "TZ": "UTC", "USER": "u"}
    secret = {"DATABASE_URL": "canary", "API_TOKEN": "canary", "LD_PRELOAD": "", "PYTHONPATH": "canary"}
    for name, value in {**passed, "LOGNAME": "u", "TMPDIR": "/tmp", **secret}.items():
        monkeypatch.setenv(name, value)
    execution = bench.execution(
        command=["/usr/bin/env", "-0"],
        env={"OWN": "a\nb", "JOBSD_FENCE": "forged"},
        lock_key="region:{region}",
        params={"region": "eu", "text": 'é"\n'},
    )

    completed(await execute(execution))

    shown = str(execution.usage.output)  # NUL is left out, so the pairs run together
    for pair in (
        *(f"{name}={value}" for name, value in passed.items()),
        "LOGNAME=u",
        "TMPDIR=/tmp",
        "OWN=a\nb",
        "JOBSD_JOB=work",
        "JOBSD_RUN_ID=12",
        "JOBSD_ATTEMPT=2",
        "JOBSD_FENCE=77",
        "JOBSD_LOCK_KEY=region:eu",
        "JOBSD_SLOT_AT=2026-03-01T06:30:00+00:00",
        'JOBSD_PARAMS={"region":"eu","text":"é\\"\\n"}',
        "JOBSD_DRY_RUN=0",
        "JOBSD_IDEMPOTENCY_KEY=work:run:12",
    ):
        assert pair in shown
        shown = shown.replace(pair, "", 1)
    assert shown == ""


@pytest.mark.req("P4")
async def test_a_manual_run_without_a_lock_key_has_no_slot_and_its_own_number_as_key(bench: Bench) -> None:
    show = ["sh", "-c", 'echo "[$JOBSD_SLOT_AT] [$JOBSD_LOCK_KEY] [$JOBSD_IDEMPOTENCY_KEY]"']
    by_hand = {"slot_at": None, "idempotency_key": "nightly 1\r\nX: y"}

    outcome = await execute(bench.execution(command=show, lock_key="{run_id}", run=by_hand))

    assert output(outcome) == "[] [12] [work:nightly%201%0D%0AX%3A%20y]\n"


@pytest.mark.req("C2")
async def test_parameters_too_long_for_a_variable_are_refused_in_words(bench: Bench) -> None:
    outcome = failed(await execute(bench.execution(command=["true"], params={"text": "x" * 200_000})))

    assert outcome.kind == "start"
    assert "the variable JOBSD_PARAMS would have 2000" in outcome.error


@pytest.mark.req("P11")
@pytest.mark.fault(28)
async def test_a_flood_of_200_mb_is_drained_and_only_its_end_is_kept(bench: Bench) -> None:
    flood = "head -c 200000000 /dev/zero | tr '\\0' 'x'; echo; echo the end"
    execution = bench.execution(command=["sh", "-c", flood], output="4KiB")
    peak_before, cpu_before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, cpu_s()

    completed(await execute(execution))

    kept = str(execution.usage.output)
    first, _, rest = kept.partition("\n")
    assert first == f"[… {200_000_000 + 9 - 4 * KIB} bytes before this were dropped]"
    assert len(rest) == 4 * KIB
    assert rest.endswith("x\nthe end\n")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak_before < 20 * KIB  # in KiB
    assert cpu_s() - cpu_before < 1.0


def cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


@pytest.mark.req("P11")
@pytest.mark.fault(28)
async def test_binary_output_becomes_text_that_postgresql_takes(bench: Bench) -> None:
    outcome = await execute(bench.execution(command=["printf", r"a\0b\377\376\033[31mc\303\251\303"]))

    assert output(outcome) == "ab\ufffd\ufffd\x1b[31mcé\ufffd"


@pytest.mark.req("P11")
@pytest.mark.fault(28)
async def test_the_kept_end_does_not_begin_within_a_character(bench: Bench) -> None:
    outcome = await execute(bench.execution(command=["printf", "%s", "é" * 100], output=51))

    assert output(outcome) == "[… 149 bytes before this were dropped]\n" + "é" * 25


@pytest.mark.req("C5")
async def test_memory_and_cpu_of_the_whole_tree_are_accounted(bench: Bench) -> None:
    hungry = "import time; x = bytearray(80 << 20); t = time.process_time()\nwhile time.process_time() < t + 0.3: pass"
    in_a_grandchild = ["sh", "-c", f"( {sys.executable} -S -c '{hungry}' ); true"]

    outcome = completed(await execute(bench.execution(command=in_a_grandchild)))

    assert outcome.usage.peak_memory_bytes is not None and outcome.usage.cpu_seconds is not None
    assert 80 * MIB < outcome.usage.peak_memory_bytes < 200 * MIB
    assert 0.3 <= outcome.usage.cpu_seconds < 5


@pytest.mark.req("P11")
@pytest.mark.fault(26)
async def test_the_kernel_takes_a_job_before_the_daemon_when_memory_is_short(bench: Bench) -> None:
    outcome = await execute(bench.execution(command=["cat", "/proc/self/oom_score_adj"]))

    assert output(outcome) == "500\n"
