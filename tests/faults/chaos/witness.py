"""How jobs tell what they do: a line, one write, appended to a file that no daemon owns. The file's order is time's.

Run as `python -I -S witness.py FILE` it is the job of commands: it takes its run's steps, and has a grandchild in a
session of its own that goes on taking steps until somebody ends it.
"""

# Imported by a bare interpreter that has to be up in milliseconds: the standard library's lightest only.
import os
import sys
import time

STEP_S = 0.06


def tell(file: str, *words: object) -> None:
    """WORD KIND JOB RUN ATTEMPT FENCE KEY, to which the process's id and CLOCK_BOOTTIME in ns are added."""
    line = " ".join(map(str, (*words, os.getpid(), time.clock_gettime_ns(time.CLOCK_BOOTTIME))))
    log = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(log, line.encode() + b"\n")
    finally:
        os.close(log)


def main(file: str, steps: int) -> None:
    names = ("JOBSD_JOB", "JOBSD_RUN_ID", "JOBSD_ATTEMPT", "JOBSD_FENCE", "JOBSD_LOCK_KEY")
    who = [os.environ[name] for name in names]
    tell(file, "begin", "command", *who)
    if os.fork() == 0:
        os.setsid()
        while True:
            time.sleep(STEP_S)
            tell(file, "step", "grandchild", *who)
    for _ in range(steps):
        time.sleep(STEP_S)
        tell(file, "step", "command", *who)
    tell(file, "end", "command", *who)


if __name__ == "__main__":
    # The number of steps is the run's own, and comes with its parameters: {"steps":4,…}
    main(sys.argv[1], int(os.environ["JOBSD_PARAMS"].partition('"steps":')[2].split(",")[0].rstrip("}")))
