"""Loaded by Python at the start of a daemon that the harness wants to be wrong."""

import os
import sys

if (name := os.environ.get("CHAOS_SABOTAGE")) and "serve" in sys.orig_argv:
    from tests.faults.chaos import sabotages

    sabotages.commit(name)
