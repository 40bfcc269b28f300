"""A run of each kind that works in steps, and what its steps tell: who took one, and in which order.

The command's tree is as bad as one can be: a grandchild in a session of its own, forked twice, deaf to TERM, that takes
the steps while its parents are long gone or asleep.
"""

from dataclasses import dataclass
from pathlib import Path

from tests.support.daemon import Daemon
from tests.support.eventually import eventually

KINDS = ("in_loop", "apart", "plain", "command")
SHORT = {"beat": "200ms", "deadline": "500ms", "adopt": "1s", "lease": "1500ms", "kill": "500ms", "rescue": "4s"}
SCRIPT = """
trap '' TERM
step() { echo "$JOBSD_FENCE $1" >> "$FILE"; }
step $$
[ "$JOBSD_ATTEMPT" = 1 ] || exit 0
( setsid sh -c 'trap "" TERM; while :; do echo "$JOBSD_FENCE $$" >> "$FILE"; sleep 1; done' & ) &
sleep 1000
"""


def stepping(folder: Path, more: str = "restartable = true") -> str:
    """The jobs, each with a log of its steps in `folder`, for every daemon that is given them."""
    work = {
        "in_loop": 'handler = "tests.faults.jobs:steps"',
        "apart": 'handler = "tests.faults.jobs:steps"\nisolation = "process"',
        "plain": 'handler = "tests.faults.jobs:steps_plainly"',
        "command": f"command = [\"sh\", \"-c\", '''{SCRIPT}''']",
    }
    tables = (
        f'[jobs.{kind}]\n{how}\nparams = {{ file = "{folder / kind}" }}\nenv = {{ FILE = "{folder / kind}" }}\n{more}\n'
        for kind, how in work.items()
    )
    return "\n".join(tables)


@dataclass(frozen=True)
class Step:
    fence: int
    pid: int


def taken(folder: Path, kind: str) -> list[Step]:
    """All steps of the job so far, in the order in which they were taken."""
    file = folder / kind
    return [Step(*map(int, line.split())) for line in file.read_text().splitlines()] if file.exists() else []


async def all_begun(node: Daemon, folder: Path) -> dict[str, int]:
    """Trigger each of them and wait until it works, the grandchild too; run ids by kind."""
    runs = {kind: await node.trigger(kind) for kind in KINDS}

    async def at_work() -> list[bool]:
        return [len({step.pid for step in taken(folder, kind)}) >= (2 if kind == "command" else 1) for kind in KINDS]

    await eventually(at_work, [True] * len(KINDS))
    return runs


def below(pid: int) -> list[int]:
    """Every process below this one, parents first."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        children.setdefault(int(fields[1]), []).append(int(stat.parent.name))
    found = [pid]
    for each in found:
        found += children.get(each, [])
    return found[1:]


def living_in(folder: Path) -> set[int]:
    """Processes that work in this folder, whoever their parents are; zombies do nothing."""
    return {int(each.name) for each in Path("/proc").glob("[0-9]*") if _works_in(each, folder)}


def _works_in(process: Path, folder: Path) -> bool:
    try:
        return (process / "cwd").readlink() == folder and "State:\tZ" not in (process / "status").read_text()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return False
