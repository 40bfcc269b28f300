"""Each mistake that a configuration can have, with the words that its author reads."""

import pytest

from tests.support.registry import Folder

# The name of each case is the code that it shows; what is told must be the whole of what is said.
CASES = {
    "E0203 broken TOML": (
        """
        [jobs.a]
        command = ["true"
        timeout = "1m"
        """,
        """
        error[E0203]: not valid TOML: unclosed array
          --> jobsd.toml:3:1
         3 | timeout = "1m"
           | ^
        """,
    ),
    "E0204 a key in a schedule": (
        """
        [jobs.backup]
        command = ["true"]
        [jobs.backup.schedule]
        crn = "30 2 * * *"
        every = "1h"
        """,
        """
        error[E0204]: unknown key "crn" in [jobs.backup.schedule]
          --> jobsd.toml:4:1
         4 | crn = "30 2 * * *"
           | ^^^ did you mean "cron"?        allowed keys: jobsd explain jobs.NAME.schedule
        """,
    ),
    "E0204 a key of a job that is like no other": (
        """
        [jobs.a]
        command = ["true"]
        retry = { attempts = 1, xyzzy = 2 }
        """,
        """
        error[E0204]: unknown key "xyzzy" in [jobs.a.retry]
          --> jobsd.toml:3:25
         3 | retry = { attempts = 1, xyzzy = 2 }
           |                         ^^^^^ allowed keys: jobsd explain jobs.NAME.retry
          allowed keys are: attempts, backoff, base, cap
        """,
    ),
    "E0204 a table at the top": (
        """
        [htp]
        port = 1
        """,
        """
        error[E0204]: unknown key "htp" at the top
          --> jobsd.toml:1:2
         1 | [htp]
           |  ^^^ did you mean "http"?
        """,
    ),
    "E0204 a name within the job": (
        """
        [jobs.a]
        name = "b"
        command = ["true"]
        """,
        """
        error[E0204]: unknown key "name" in [jobs.a]
          --> jobsd.toml:2:1
         2 | name = "b"
           | ^^^^ allowed keys: jobsd explain jobs.NAME
          allowed keys are: description, handler, command, sql, http, external, schedule, needs, needs_within, \
lock_key, concurrency, rate, max_active, timeout, grace, priority, retry, params, isolation, env, cwd, output, atomic, \
progress, stale_after, keep, restartable, enabled, dry_run, pool, signal, alert, runbook
        """,
    ),
    "E0205 a name of the listener's with a port": (
        """
        [http]
        hosts = ["jobs.example.org:443"]
        """,
        """
        error[E0205]: http.hosts[0]: expected a name alone, like "jobs.example.org", without scheme or port, got "jobs.example.org:443"
          --> jobsd.toml:2:10
         2 | hosts = ["jobs.example.org:443"]
           |          ^^^^^^^^^^^^^^^^^^^^^^
        """,  # noqa: E501
    ),
    "E0205 a duration": (
        """
        [jobs.a]
        command = ["true"]
        timeout = "90"
        """,
        """
        error[E0205]: jobs.a.timeout: expected a number and a unit, like "90s", "15m" or "1h30m", got "90"
          --> jobsd.toml:3:11
         3 | timeout = "90"
           |           ^^^^
        """,
    ),
    "E0205 one of a few words": (
        """
        [jobs.a]
        command = ["true"]
        schedule = { every = "1h", missed = "onse" }
        """,
        """
        error[E0205]: jobs.a.schedule.missed: expected one of "skip", "once", "all", got "onse"
          --> jobsd.toml:3:37
         3 | schedule = { every = "1h", missed = "onse" }
           |                                     ^^^^^^ did you mean "once"?
        """,
    ),
    "E0205 a table for a list": (
        """
        [jobs.a]
        command = { x = 1 }
        """,
        """
        error[E0205]: jobs.a.command: expected a list, like ["a", "b"], got a table
          --> jobsd.toml:2:11
         2 | command = { x = 1 }
           |           ^^^^^^^^^
        """,
    ),
    "E0205 a number in a command": (
        """
        [jobs.a]
        command = ["sleep", 5]
        """,
        """
        error[E0205]: jobs.a.command[1]: expected text in quotes, got 5
          --> jobsd.toml:2:21
         2 | command = ["sleep", 5]
           |                     ^
        """,
    ),
    "E0205 no words at all in a command": (
        """
        [jobs.a]
        command = []
        """,
        """
        error[E0205]: jobs.a.command: expected at least 1 of them, got an empty list
          --> jobsd.toml:2:11
         2 | command = []
           |           ^^
        """,
    ),
    "E0205 either of two kinds": (
        """
        [jobs.a]
        http = { url = "http://x/", body = 3 }
        """,
        """
        error[E0205]: jobs.a.http.body: expected text in quotes or a table, got 3
          --> jobsd.toml:2:36
         2 | http = { url = "http://x/", body = 3 }
           |                                    ^
        """,
    ),
    "E0205 numbers beyond their bounds": (
        """
        [daemon]
        slots = 0
        [http]
        port = 70000
        """,
        """
        error[E0205]: daemon.slots: expected at least 1, got 0
          --> jobsd.toml:2:9
         2 | slots = 0
           |         ^
        error[E0205]: http.port: expected at most 65535, got 70000
          --> jobsd.toml:4:8
         4 | port = 70000
           |        ^^^^^
        """,
    ),
    "E0205 a priority, a size, a date, a flag": (
        """
        [jobs.a]
        command = ["true"]
        priority = "now"
        output = "64 KB"
        restartable = "often"
        schedule = { every = "1h", starts = "soon" }
        """,
        """
        error[E0205]: jobs.a.priority: expected one of critical, high, medium, low, or 0 (first) to 9 (last), got "now"
          --> jobsd.toml:3:12
         3 | priority = "now"
           |            ^^^^^
        error[E0205]: jobs.a.output: expected a size, like "64MiB", got "64 KB"
          --> jobsd.toml:4:10
         4 | output = "64 KB"
           |          ^^^^^^^
        error[E0205]: jobs.a.restartable: expected true or false, got "often"
          --> jobsd.toml:5:15
         5 | restartable = "often"
           |               ^^^^^^^
        error[E0205]: jobs.a.schedule.starts: expected a date and time, like 2026-01-31T08:00:00Z, got "soon"
          --> jobsd.toml:6:37
         6 | schedule = { every = "1h", starts = "soon" }
           |                                     ^^^^^^
        """,
    ),
    "E0205 a schema's name": (
        """
        [database]
        schema = "My Schema"
        """,
        """
        error[E0205]: database.schema: expected a name of small letters, digits and _, got "My Schema"
          --> jobsd.toml:2:10
         2 | schema = "My Schema"
           |          ^^^^^^^^^^^
        """,
    ),
    "E0205 a job that is no table": (
        """
        [jobs]
        a = 5
        """,
        """
        error[E0205]: jobs.a: expected a table, got 5
          --> jobsd.toml:2:5
         2 | a = 5
           |     ^
        """,
    ),
    "E0205 retries by a name that there is not": (
        """
        [jobs.a]
        command = ["true"]
        retry = "quene"
        """,
        """
        error[E0205]: jobs.a.retry: expected a table such as { attempts = 3 }, "by-priority" or "queue", got "quene"
          --> jobsd.toml:3:9
         3 | retry = "quene"
           |         ^^^^^^^
        """,
    ),
    "E0205 retries that are a number": (
        """
        [jobs.a]
        command = ["true"]
        retry = 3
        """,
        """
        error[E0205]: jobs.a.retry: expected a table, got 3
          --> jobsd.toml:3:9
         3 | retry = 3
           |         ^
        """,
    ),
    "E0206 a key that must be there": (
        """
        [jobs.a]
        command = ["true"]
        retry = { base = "1s" }
        """,
        """
        error[E0206]: missing key "attempts" in [jobs.a.retry]
          --> jobsd.toml:3:1
         3 | retry = { base = "1s" }
           | ^^^^^
        """,
    ),
    "E0228 an atomic job that shows progress, and one that would forget its runs": (
        """
        [jobs.a]
        command = ["true"]
        atomic = true
        progress = true
        keep = { failed = "1d" }
        """,
        """
        error[E0228]: jobs.a.progress: an atomic job completes or fails as a whole and shows no progress
          --> jobsd.toml:4:12
         4 | progress = true
           |            ^^^^
          leave out one of the two
        error[E0228]: jobs.a.keep: runs of an atomic job are never deleted
          --> jobsd.toml:5:8
         5 | keep = { failed = "1d" }
           |        ^^^^^^^^^^^^^^^^^
          leave it out, or keep = "forever"
        """,
    ),
    "E0228 an external job that would be started again": (
        """
        [jobs.a]
        external = true
        restartable = true
        """,
        """
        error[E0228]: jobs.a.restartable: jobsd cannot start an external job's program again
          --> jobsd.toml:3:15
         3 | restartable = true
           |               ^^^^
          a program that falls silent is retried as its retry says
        """,
    ),
    "E0228 keys that say nothing where they stand": (
        """
        [jobs.a]
        command = ["true"]
        isolation = "process"
        [jobs.b]
        command = ["true"]
        needs = ["a"]
        [jobs.c]
        command = ["true"]
        schedule = { every = "5m" }
        needs_within = "1h"
        """,
        """
        error[E0228]: jobs.a.isolation: says where a handler runs, and this job has command
          --> jobsd.toml:3:13
         3 | isolation = "process"
           |             ^^^^^^^^^
          leave it out
        error[E0228]: jobs.b.needs: due slots wait for other jobs, and this job has no schedule
          --> jobsd.toml:6:9
         6 | needs = ["a"]
           |         ^^^^^
          give it one, or leave this out
        error[E0228]: jobs.c.needs_within: how long due slots wait, and for no job
          --> jobsd.toml:10:16
         10 | needs_within = "1h"
            |                ^^^^
          say which: needs = ["JOB"]
        """,
    ),
    "E0205 an address that nobody can be asked at": (
        """
        [jobs.a]
        http = { url = "db1/health" }
        [jobs.b]
        http = { url = "http://[::1/x" }
        """,
        """
        error[E0205]: jobs.a.http.url: expected an address, like "https://host/path", got "db1/health"
          --> jobsd.toml:2:16
         2 | http = { url = "db1/health" }
           |                ^^^^^^^^^^^^
        error[E0205]: jobs.b.http.url: expected an address, like "https://host/path", got "http://[::1/x"
          --> jobsd.toml:4:16
         4 | http = { url = "http://[::1/x" }
           |                ^^^^^^^^^^^^^^^
        """,
    ),
    "E0229 a request to a metadata service, and a channel to nowhere": (
        """
        [jobs.a]
        http = { url = "http://169.254.169.254/latest" }
        [jobs.b]
        http = { url = "http://169.254.169.254/latest", allow = ["169.254.0.0/16"] }
        [alerts.channels.team]
        url = "json://user:secret@0.0.0.0/hook"
        """,
        """
        error[E0229]: jobs.a.http.url: 169.254.169.254 is a link-local address, where no request may go
          --> jobsd.toml:2:16
         2 | http = { url = "http://169.254.169.254/latest" }
           |                ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
          if it is meant, say so beside it: allow = ["169.254.169.254"]
        error[E0229]: alerts.channels.team: 0.0.0.0 is no host's address, where no request may go
          --> jobsd.toml:5:18
         5 | [alerts.channels.team]
           |                  ^^^^
          if it is meant, say so beside it: allow = ["0.0.0.0"]
        """,
    ),
    "E0205 an allowed address that is none": (
        """
        [jobs.a]
        http = { url = "http://partner.example/", allow = ["localhost"] }
        """,
        """
        error[E0205]: jobs.a.http.allow[0]: expected an address or a network, like "10.0.0.0/8", got "localhost"
          --> jobsd.toml:2:52
         2 | http = { url = "http://partner.example/", allow = ["localhost"] }
           |                                                    ^^^^^^^^^^^
        """,
    ),
    "E0205 a rate, and a kind of work that is switched off": (
        """
        [jobs.a]
        command = ["true"]
        rate = "often"
        [jobs.b]
        external = false
        """,
        """
        error[E0205]: jobs.a.rate: expected a number of starts and a time, like "100/min" or "10/90s", got "often"
          --> jobsd.toml:3:8
         3 | rate = "often"
           |        ^^^^^^^
        error[E0205]: jobs.b.external: expected true, got false
          --> jobsd.toml:5:12
         5 | external = false
           |            ^^^^^
        """,
    ),
    "E0207 a job twice in one file": (
        """
        [jobs.backup]
        command = ["true"]
        [jobs.backup]
        command = ["false"]
        """,
        """
        error[E0207]: job "backup" is declared twice
          --> jobsd.toml:3:7
         3 | [jobs.backup]
           |       ^^^^^^ first declared at jobsd.toml:1:7
        """,
    ),
    "E0208 a pattern without a match, a file that is not there": (
        """
        include = ["jobs.d/*.toml", "more.toml"]
        """,
        """
        error[E0208]: include: nothing matches "jobs.d/*.toml"
          --> jobsd.toml:1:12
         1 | include = ["jobs.d/*.toml", "more.toml"]
           |            ^^^^^^^^^^^^^^^ looked in .
        error[E0208]: include: nothing matches "more.toml"
          --> jobsd.toml:1:29
         1 | include = ["jobs.d/*.toml", "more.toml"]
           |                             ^^^^^^^^^^^ looked in .
        """,
    ),
    "E0210 a name with a space": (
        """
        [jobs."my job"]
        command = ["true"]
        """,
        """
        error[E0210]: a job cannot be named "my job"
          --> jobsd.toml:1:7
         1 | [jobs."my job"]
           |       ^^^^^^^^ a letter, then letters, digits, _ . -, at most 100
        """,
    ),
    "E0211 an hour that no day has": (
        """
        [jobs.a]
        command = ["true"]
        [jobs.a.schedule]
        cron = "30 25 * * *"
        """,
        """
        error[E0211]: cron: hour must be 0-23, not "25"
          --> jobsd.toml:4:12
         4 | cron = "30 25 * * *"
           |            ^^ five fields: minute hour day month weekday    try: jobsd next --cron "30 2 * * *"
        """,
    ),
    "E0212 a day that never comes": (
        """
        [jobs.a]
        command = ["true"]
        schedule = { cron = "0 0 30 2 *" }
        """,
        """
        error[E0212]: cron: "0 0 30 2 *" never fires: no day of 100 years is one
          --> jobsd.toml:3:22
         3 | schedule = { cron = "0 0 30 2 *" }
           |                      ^^^^^^^^^^
        """,
    ),
    "E0213 a zone that is nowhere": (
        """
        [jobs.a]
        command = ["true"]
        schedule = { cron = "@daily", timezone = "Europe/Berln" }
        """,
        """
        error[E0213]: timezone: "Europe/Berln" is not known
          --> jobsd.toml:3:42
         3 | schedule = { cron = "@daily", timezone = "Europe/Berln" }
           |                                          ^^^^^^^^^^^^^^ did you mean "Europe/Berlin"?
        """,
    ),
    "E0214 two forms of schedule": (
        """
        [jobs.a]
        command = ["true"]
        schedule = { every = "5m", cron = "* * * * *" }
        """,
        """
        error[E0214]: expected one of every, cron, after, got every and cron
          --> jobsd.toml:3:28
         3 | schedule = { every = "5m", cron = "* * * * *" }
           |                            ^^^^
        """,
    ),
    "E0215 less than a second": (
        """
        [jobs.a]
        command = ["true"]
        schedule = { every = "500ms" }
        """,
        """
        error[E0215]: every: expected whole seconds, at least "1s", got "500ms"
          --> jobsd.toml:3:22
         3 | schedule = { every = "500ms" }
           |                      ^^^^^^^
        """,
    ),
    "E0216 work of two kinds": (
        """
        [jobs.a]
        command = ["true"]
        sql = "SELECT 1"
        """,
        """
        error[E0216]: jobs.a: expected exactly one of handler, command, sql, http, external, got command and sql
          --> jobsd.toml:3:1
         3 | sql = "SELECT 1"
           | ^^^
        """,
    ),
    "E0216 no work at all": (
        """
        [jobs.a]
        description = "nothing"
        """,
        """
        error[E0216]: jobs.a: expected exactly one of handler, command, sql, http, external, got none
          --> jobsd.toml:1:7
         1 | [jobs.a]
           |       ^
        """,
    ),
    "E0217 jobs that are not there": (
        """
        [jobs.report]
        command = ["true"]
        schedule = { after = ["bakup"] }
        needs = ["backup", "nothing"]
        [jobs.backup]
        command = ["true"]
        """,
        """
        error[E0217]: there is no job "bakup"
          --> jobsd.toml:3:23
         3 | schedule = { after = ["bakup"] }
           |                       ^^^^^^^ did you mean "backup"?
        error[E0217]: there is no job "nothing"
          --> jobsd.toml:4:20
         4 | needs = ["backup", "nothing"]
           |                    ^^^^^^^^^
        """,
    ),
    "E0218 a circle of three, and one that waits for itself": (
        """
        [jobs.a]
        command = ["true"]
        needs = ["b"]
        schedule = { every = "5m" }
        [jobs.b]
        command = ["true"]
        schedule = { after = ["c"] }
        [jobs.c]
        command = ["true"]
        needs = ["a", "c"]
        schedule = { every = "5m" }
        """,
        """
        error[E0218]: jobs wait for each other in a circle: a -> b -> c -> a
          --> jobsd.toml:3:10
         3 | needs = ["b"]
           |          ^^^
        error[E0218]: jobs wait for each other in a circle: c -> c
          --> jobsd.toml:10:15
         10 | needs = ["a", "c"]
            |               ^^^
        """,
    ),
    "E0219 the key of a job that does not know": (
        """
        [jobs.a]
        command = ["true"]
        [jobs.b]
        command = ["true"]
        lock_key = "a"
        """,
        """
        error[E0219]: job "b" takes the lock key of job "a", which does not declare it
          --> jobsd.toml:5:12
         5 | lock_key = "a"
           |            ^^^
          if they are meant to exclude each other, say so there too: lock_key = "a" in [jobs.a]
        """,
    ),
    "E0220 a parameter that a command does not have": (
        """
        [jobs.a]
        command = ["true"]
        params = { course_id = 1 }
        lock_key = "course:{course}"
        """,
        """
        error[E0220]: lock_key: job "a" has no parameter "course"
          --> jobsd.toml:4:20
         4 | lock_key = "course:{course}"
           |                    ^^^^^^^^ it has: course_id, run_id
        """,
    ),
    "E0221 signals that are not free, or taken": (
        """
        [jobs.a]
        command = ["true"]
        signal = "SIGTERM"
        [jobs.b]
        command = ["true"]
        signal = "SIGRTMIN+3"
        [jobs.c]
        command = ["true"]
        signal = "SIGRTMIN+3"
        """,
        """
        error[E0221]: signal: "SIGTERM" cannot trigger a job
          --> jobsd.toml:3:10
         3 | signal = "SIGTERM"
           |          ^^^^^^^^^ expected SIGUSR2, SIGRTMIN+0 to SIGRTMIN+15 or SIGRTMAX-14 to SIGRTMAX-0
        error[E0221]: signal: SIGRTMIN+3 triggers job "b" already
          --> jobsd.toml:9:10
         9 | signal = "SIGRTMIN+3"
           |          ^^^^^^^^^^^^
        """,
    ),
    "E0223 the lease's times": (
        """
        [lease]
        deadline = "9s"
        lease = "10s"
        rescue = "14s"
        """,
        """
        error[E0223]: lease: expected beat + deadline < adopt, got beat 2s, deadline 9s, adopt 10s
          --> jobsd.toml:1:2
         1 | [lease]
           |  ^^^^^
        error[E0223]: lease: expected adopt < lease, got adopt 10s, lease 10s
          --> jobsd.toml:3:9
         3 | lease = "10s"
           |         ^^^^^
        error[E0223]: lease: expected lease + kill + 2s <= rescue, got lease 10s, kill 3s, rescue 14s
          --> jobsd.toml:4:10
         4 | rescue = "14s"
           |          ^^^^^
        """,
    ),
    "E0223 times of a job": (
        """
        [jobs.a]
        command = ["true"]
        timeout = "0s"
        retry = { attempts = 1, base = "1m" }
        [jobs.a.schedule]
        every = "1h"
        starts = 2026-02-01T00:00:00Z
        ends = 2026-01-01T00:00:00Z
        [[jobs.a.schedule.blackout]]
        from = 2026-02-01T00:00:00Z
        """,
        """
        error[E0223]: jobs.a.timeout: expected more than 0s
          --> jobsd.toml:3:11
         3 | timeout = "0s"
           |           ^^^^
        error[E0223]: jobs.a.retry: base (1m) is longer than cap (30s)
          --> jobsd.toml:4:32
         4 | retry = { attempts = 1, base = "1m" }
           |                                ^^^^
        error[E0223]: ends (2026-01-01 00:00:00+00:00) is not after starts (2026-02-01 00:00:00+00:00)
          --> jobsd.toml:8:8
         8 | ends = 2026-01-01T00:00:00Z
           |        ^^^^^^^^^^^^^^^^^^^^
        error[E0223]: expected from and to, or cron and duration
          --> jobsd.toml:9:19
         9 | [[jobs.a.schedule.blackout]]
           |                   ^^^^^^^^
        """,
    ),
}


@pytest.mark.req("C1", "C8")
@pytest.mark.parametrize(("text", "said"), CASES.values(), ids=CASES.keys())
@pytest.mark.fault(31)
def test_a_mistake_is_told_with_its_place_and_a_way_out(folder: Folder, text: str, said: str) -> None:
    assert lines(folder.mistakes(text)) == lines(said)


def lines(text: str) -> list[str]:
    """Without what the test's own indentation adds."""
    indent = " " * 8
    return [line.removeprefix(indent).rstrip() for line in text.strip("\n").split("\n") if line.strip()]


@pytest.mark.req("C1")
@pytest.mark.fault(32)
def test_a_job_in_two_files_is_told_with_both_places(folder: Folder) -> None:
    folder.write("jobs.d/a.toml", '# one\n[jobs.backup]\ncommand = ["true"]\n')
    folder.write("jobs.d/b.toml", '[jobs.other]\nsql = "SELECT 1"\n[jobs.backup]\ncommand = ["true"]\n')

    said = folder.mistakes('include = ["jobs.d/*.toml"]')

    assert said == (
        'error[E0207]: job "backup" is declared twice\n'
        "  --> jobs.d/b.toml:3:7\n"
        " 3 | [jobs.backup]\n"
        "   |       ^^^^^^ first declared at jobs.d/a.toml:2:7"
    )


@pytest.mark.req("C1")
def test_all_mistakes_of_all_files_are_told_at_once(folder: Folder) -> None:
    folder.write(
        "jobs.d/a.toml",
        '[jobs.a]\ncommand = ["true"]\ntimeout = "1"\nneeds = ["c"]\nschedule = { cron = "61 * * * *" }\n',
    )
    folder.write("jobs.d/b.toml", "[jobs.b\n")
    folder.write("jobs.d/c.toml", '[http]\nport = 1\n[jobs.d]\nhandler = "tests.support.handlers:nothing"\n')

    said = folder.mistakes('include = ["jobs.d/*.toml"]\n[http]\nport = "x"\n')

    assert [line for line in said.split("\n") if line.startswith(("error", "  -->"))] == [
        'error[E0205]: http.port: expected a whole number, got "x"',
        "  --> jobsd.toml:3:8",
        'error[E0205]: jobs.a.timeout: expected a number and a unit, like "90s", "15m" or "1h30m", got "1"',
        "  --> jobs.d/a.toml:3:11",
        'error[E0217]: there is no job "c"',
        "  --> jobs.d/a.toml:4:10",
        'error[E0211]: cron: minute must be 0-59, not "61"',
        "  --> jobs.d/a.toml:5:22",
        'error[E0204]: unknown key "http" at the top',
        "  --> jobs.d/c.toml:1:2",
        'error[E0231]: handler "tests.support.handlers:nothing" not found; tests.support.handlers has: import_course',
        "  --> jobs.d/c.toml:4:11",
        "error[E0203]: not valid TOML: expected ']' at the end of a table declaration",
        "  --> jobs.d/b.toml:1:8",
    ]


def test_a_caret_stands_under_a_value_that_follows_a_tab(folder: Folder) -> None:
    said = folder.mistakes('[jobs.a]\n\tcommand = ["true"]\n\ttimeout =\t"x"\n')

    assert said.split("\n")[2:] == [' 3 |  timeout = "x"', "   |            ^^^"]


@pytest.mark.req("C1")
def test_a_misspelt_key_of_a_schedule_is_told_alone_and_not_as_a_missing_form_too(folder: Folder) -> None:
    told = folder.mistakes('[jobs.a]\ncommand = ["true"]\nschedule = { crn = "30 2 * * *" }\n')

    assert told.startswith("error[E0204]")
    assert told.count("error[") == 1


@pytest.mark.req("C1")
@pytest.mark.parametrize("schedule", ['every = "0.5s"', "cron = 5", 'after = "other"'])
def test_a_form_of_a_schedule_whose_value_is_of_the_wrong_kind_is_told_once(folder: Folder, schedule: str) -> None:
    told = folder.mistakes(f'[jobs.a]\ncommand = ["true"]\nschedule = {{ {schedule} }}\n')

    assert told.startswith("error[E0205]")
    assert told.count("error[") == 1


@pytest.mark.req("C6")
def test_a_channel_that_nobody_declared_is_told_where_a_job_names_it(folder: Folder) -> None:
    text = '[alerts.channels.team]\nurl = "json://127.0.0.1/"\n[jobs.a]\ncommand = ["true"]\n'

    told = folder.mistakes(text + 'alert = { channels = ["log", "teem"] }\n')

    assert told.startswith('error[E0226]: there is no channel "teem"')
    assert 'did you mean "team"?' in told
    assert told.count("error[") == 1
