"""A host's name leads elsewhere after a failover, or is not answered: each connection asks anew, and not for ever."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.daemon import ROOT
from tests.support.postgres import OwnServer
from tests.support.proxy import Proxy

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="gives a process names of its own, which is root's to do")

# In a mount namespace of its own, with a file of its own as /etc/hosts. While that is a pipe without a writer nobody
# gets an answer: the resolver waits to open it.
ASKING = """
import asyncio, os, subprocess, sys
from pathlib import Path
from time import monotonic

from jobsd.store.db import Unavailable, connect

url, folder, port = sys.argv[1], Path(sys.argv[2]), sys.argv[3]

def names(file):
    subprocess.run(["mount", "--bind", file, "/etc/hosts"], check=True)

async def tried(name):
    try:
        con = await connect(url.replace("HOST", name), application_name="test", timeout_s=2)
    except Unavailable as gone:
        return str(gone)
    con.terminate()
    return "connected"

async def main():
    for said in ("elsewhere", "nowhere", "here"):
        names(folder / said)
        print(said, await tried("db.test"), sep=": ", flush=True)
    names(folder / "silent")
    print("silent", await tried("db.test"), sep=": ", flush=True)
    print("and another", await tried(f"db.test:{port},127.0.0.1"), sep=": ", flush=True)
    os._exit(0)  # the resolver's threads may still wait

asyncio.run(main())
"""


@pytest.mark.req("P6")
@pytest.mark.fault(19)
async def test_each_connection_resolves_the_hosts_name_anew_and_waits_for_no_answer_for_ever(
    own_server: Callable[..., OwnServer], tmp_path: Path
) -> None:
    server = own_server()
    proxy = Proxy(f"{server.server.socket_dir}/.s.PGSQL.5432")
    try:
        (tmp_path / "elsewhere").write_text("127.0.0.9 db.test\n")
        (tmp_path / "nowhere").write_text("127.0.0.1 localhost\n")
        (tmp_path / "here").write_text("127.0.0.1 db.test\n")
        os.mkfifo(tmp_path / "silent")
        port = proxy.port
        url = f"postgresql://postgres@HOST:{port}/postgres?sslmode=disable"
        argv = ["unshare", "--mount", sys.executable, "-c", ASKING, url, tmp_path, str(port)]
        environ = {**os.environ, "PYTHONPATH": str(ROOT)}
        ended = await asyncio.to_thread(
            subprocess.run, argv, capture_output=True, text=True, timeout=100, env=environ, check=False
        )
    finally:
        proxy.close()

    told = dict(line.split(": ", 1) for line in ended.stdout.splitlines())
    assert list(told) == ["elsewhere", "nowhere", "here", "silent", "and another"], ended.stderr
    assert told["elsewhere"] == "connection refused"
    assert told["nowhere"] not in ("connected", "connection refused")
    assert told["here"] == "connected"
    assert told["silent"].startswith("TimeoutError")
    assert told["and another"] == "connected"
