"""Runs a program and writes down what it took: `timed.py REPORT PROGRAM ARGUMENT…`.

A small process of its own, because a child's peak memory counts from the size of the process that starts it.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

if __name__ == "__main__":
    began = time.perf_counter()
    child = os.posix_spawn(sys.argv[2], sys.argv[2:], os.environ)
    _, status, usage = os.wait4(child, 0)
    took = {"seconds": time.perf_counter() - began, "peak_mib": usage.ru_maxrss / 1024}
    took["cpu_s"] = usage.ru_utime + usage.ru_stime
    Path(sys.argv[1]).write_text(json.dumps(took))
    sys.exit(os.waitstatus_to_exitcode(status))
