"""Processes that tests start and kill, without the seconds that each would take to import torch."""

import multiprocessing

START = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
"""One process imports, once, and has children that begin where it is; elsewhere each imports."""

if START == "forkserver":
    multiprocessing.set_forkserver_preload(["arviz", "pyrovae", "torch._dynamo"])
