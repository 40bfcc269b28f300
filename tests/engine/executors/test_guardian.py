"""The guardian: whatever becomes of the daemon, of the command or of itself, no process is left that nobody watches."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import uvloop

from jobsd.engine.executors.base import execute
from tests.engine.executors.bench import (
    PATIENCE_S,
    TREE,
    TREE_SIZE,
    Bench,
    alive,
    all_trees_gone,
    completed,
    guardians_of,
    lost,
    output,
    pids_in,
    tree,
    until,
)

LIBC_S_OWN = 0b11 << 31  # 32 and 33: make(1) ignores them for its children, and nobody can undo it


@asynccontextmanager
async def daemon(state_dir: Path, argv: list[str], lease_s: float = 600.0) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.engine.executors.daemon", str(state_dir), str(lease_s), *argv),
        stdout=subprocess.PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGCONT)
            process.kill()
        await process.communicate()


@pytest.mark.fault(1, 26)
@pytest.mark.req("C4", "P7")
async def test_a_killed_daemon_leaves_no_process_of_the_tree(tmp_path: Path) -> None:
    async with daemon(tmp_path, tree(tmp_path / "pids")) as process:
        pids = await pids_in(tmp_path / "pids", TREE_SIZE)

        process.kill()
        await all_trees_gone(tmp_path)

    assert alive(pids) == []


@pytest.mark.fault(2)
@pytest.mark.req("P3", "P7")
async def test_a_frozen_daemons_tree_dies_when_the_lease_is_over_and_not_before(tmp_path: Path) -> None:
    async with daemon(tmp_path, tree(tmp_path / "pids"), lease_s=2.0) as process:
        pids = await pids_in(tmp_path / "pids", TREE_SIZE)

        process.send_signal(signal.SIGSTOP)
        lived_on = alive(pids)
        await all_trees_gone(tmp_path)
        left = alive(pids)
        process.send_signal(signal.SIGCONT)
        assert process.stdout is not None
        said = await asyncio.wait_for(process.stdout.readline(), PATIENCE_S)

    assert lived_on == pids
    assert left == []
    assert b"Lost(reason='its lease was over" in said


@pytest.mark.req("P3")
async def test_nothing_starts_once_the_lease_is_over(tmp_path: Path) -> None:
    bench = Bench(tmp_path, lease_s=-1.0)

    outcome = lost(await execute(bench.execution(command=["touch", str(tmp_path / "ran")])))

    assert outcome.reason == "not started: its lease was over before it could start"
    assert not (tmp_path / "ran").exists()


@pytest.mark.req("P6")
async def test_a_lease_taken_back_ends_every_tree(bench: Bench, tmp_path: Path) -> None:
    work = [asyncio.create_task(execute(bench.execution(command=tree(tmp_path / f"pids{n}")))) for n in range(3)]
    pids = [pid for n in range(3) for pid in await pids_in(tmp_path / f"pids{n}", TREE_SIZE)]

    bench.guardians.renew(0)
    outcomes = await asyncio.gather(*work)

    assert len([lost(outcome) for outcome in outcomes]) == 3
    assert alive(pids) == []


@pytest.mark.req("P7")
async def test_nothing_starts_while_a_successor_takes_over(bench: Bench, tmp_path: Path) -> None:
    successor = subprocess.Popen(["flock", "-x", tmp_path / "kids.lock", "cat"], stdin=subprocess.PIPE)
    await until(lambda: subprocess.run(["flock", "-n", tmp_path / "kids.lock", "true"]).returncode != 0)

    outcome = lost(await execute(bench.execution(command=["touch", str(tmp_path / "ran")])))
    successor.communicate()

    assert "taking over" in outcome.reason
    assert not (tmp_path / "ran").exists()


@pytest.mark.fault(27)
@pytest.mark.req("P11", "C3")
async def test_a_command_that_ignores_term_is_killed_with_its_whole_tree(bench: Bench, tmp_path: Path) -> None:
    deaf = ["sh", "-c", f"trap '' TERM; {TREE.replace('PIDS', str(tmp_path / 'pids'))}; while :; do sleep 1; done"]
    work = asyncio.create_task(execute(bench.execution(command=deaf)))
    pids = await pids_in(tmp_path / "pids", TREE_SIZE)

    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work

    assert alive(pids) == []


@pytest.mark.req("C3")
async def test_a_command_gets_its_grace_to_leave_in_order(bench: Bench, tmp_path: Path) -> None:
    polite = f"trap 'echo bye; exit 0' TERM; echo $$ >> {tmp_path / 'pids'}; while :; do sleep 0.01; done"
    execution = bench.execution(command=["sh", "-c", polite], grace="20s")
    work = asyncio.create_task(execute(execution))
    await pids_in(tmp_path / "pids", 1)

    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work

    assert str(execution.usage.output).endswith("bye\n")
    assert execution.usage.exit_code == 0


@pytest.mark.req("C3")
async def test_a_second_cancellation_does_not_abandon_the_tree(bench: Bench, tmp_path: Path) -> None:
    deaf = f"trap '' TERM; echo $$ >> {tmp_path / 'pids'}; while :; do sleep 1; done"
    work = asyncio.create_task(execute(bench.execution(command=["sh", "-c", deaf])))
    pids = await pids_in(tmp_path / "pids", 1)

    for _ in range(3):
        work.cancel()
        await asyncio.sleep(0)
    with pytest.raises(asyncio.CancelledError):
        await work

    assert alive(pids) == []


@pytest.mark.req("C3")
async def test_a_stopped_command_can_be_ended(bench: Bench, tmp_path: Path) -> None:
    work = asyncio.create_task(execute(bench.execution(command=tree(tmp_path / "pids"))))
    pids = await pids_in(tmp_path / "pids", TREE_SIZE)
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)

    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work

    assert alive(pids) == []


@pytest.mark.req("P3")
async def test_what_outlives_the_command_is_ended_before_the_run_is_over(bench: Bench, tmp_path: Path) -> None:
    leaves_others = f"(trap '' TERM; echo fine; setsid sleep 1000) & echo $! >> {tmp_path / 'pids'}; exit 0"

    outcome = await execute(bench.execution(command=["sh", "-c", leaves_others]))

    assert completed(outcome).result == {"exit_code": 0}
    assert alive(await pids_in(tmp_path / "pids", 1)) == []


@pytest.mark.fault(26)
@pytest.mark.req("P3", "P11")
async def test_a_tree_that_keeps_forking_away_is_caught(bench: Bench, tmp_path: Path) -> None:
    runner = f"""
import os, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if os.fork():
    time.sleep(1000)
while True:  # every process lives 20 ms and leaves a child in a session of its own
    with open({str(tmp_path / "pids")!r}, "a") as file:
        file.write(f"{{os.getpid()}}\\n")
    time.sleep(0.02)
    if os.fork():
        os._exit(0)
    os.setsid()
"""
    work = asyncio.create_task(execute(bench.execution(command=[sys.executable, "-S", "-c", runner])))
    await pids_in(tmp_path / "pids", 5)

    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work

    assert alive([int(pid) for pid in (tmp_path / "pids").read_text().split()]) == []


@pytest.mark.req("C2")
def test_the_daemons_own_loop_runs_and_ends_processes_too(tmp_path: Path) -> None:
    async def on_uvloop() -> list[int]:
        bench = Bench(tmp_path)
        assert output(await execute(bench.execution(command=["seq", "3"]))) == "1\n2\n3\n"
        work = asyncio.create_task(execute(bench.execution(command=tree(tmp_path / "pids"))))
        pids = await pids_in(tmp_path / "pids", TREE_SIZE)
        work.cancel()
        with pytest.raises(asyncio.CancelledError):
            await work
        return pids

    assert alive(uvloop.run(on_uvloop())) == []


@pytest.mark.req("C3")
async def test_a_terminals_signals_do_not_end_a_guardian_before_its_tree(bench: Bench, tmp_path: Path) -> None:
    work = asyncio.create_task(execute(bench.execution(command=tree(tmp_path / "pids"))))
    pids = await pids_in(tmp_path / "pids", TREE_SIZE)
    (guardian,) = guardians_of(os.getpid())

    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM, signal.SIGQUIT):
        guardian.send_signal(number)
    outlived = alive([guardian.pid, *pids])
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work

    assert outlived == [guardian.pid, *pids]
    assert os.getsid(0) != guardian.pid


@pytest.mark.req("P7")
async def test_the_command_does_not_hold_the_guardians_lock(bench: Bench) -> None:
    outcome = await execute(bench.execution(command=["ls", "-l", "/proc/self/fd"]))

    entries = sorted(line.split(" -> ")[1] for line in output(outcome).splitlines() if " -> " in line)
    inherited = [entry.split(":")[0] for entry in entries if not entry.startswith("/proc/")]  # without ls's own
    assert inherited == ["/dev/null", "pipe", "pipe"]


@pytest.mark.req("C2")
async def test_a_command_starts_with_plain_signals_in_a_session_of_its_own(bench: Bench) -> None:
    outcome = await execute(bench.execution(command=["cat", "/proc/self/status"]))

    status = dict(line.split(":\t", 1) for line in output(outcome).splitlines())
    plain = {name: int(status[name], 16) & ~LIBC_S_OWN for name in ("SigBlk", "SigIgn")}
    assert plain == {"SigBlk": 0, "SigIgn": 0}
    assert status["NSsid"].split("\t")[-1] == status["Pid"] == status["NSpgid"].split("\t")[-1]


@pytest.mark.req("P11")
async def test_no_descriptor_and_no_process_is_left_after_an_execution(bench: Bench) -> None:
    await execute(bench.execution(command=["true"]))
    before = sorted(Path("/proc/self/fd").iterdir())

    for argv in (["true"], ["false"], ["no-such-program"], ["sh", "-c", "sleep 1000 &"]):
        await execute(bench.execution(command=argv))

    assert sorted(Path("/proc/self/fd").iterdir()) == before
    assert guardians_of(os.getpid()) == []
