"""How a stage ends: its wall time in a log, or one line that says what was wrong."""

import errno
import os
import re
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

from stages import STARTED
from stages.parts.run.console import is_first
from stages.parts.run.files import LOGS, write_json


class InputError(ValueError):
    """Something the user gave is not what was expected; the message is one line that names it."""


# What ends a stage in one line instead of a traceback.
EXPECTED = (
    InputError,
    ValueError,
    OSError,
    FloatingPointError,
    MemoryError,
)
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
PATIENCE = 10  # seconds in which the first process, or the launcher, ends the others
# What torch and faiss say with a RuntimeError, on a CPU and on a GPU.
NO_MEMORY = re.compile(r"out of memory|can't allocate memory|alloc(_| )fail", re.IGNORECASE)


@contextmanager
def run_stage(name: str, batch: str = "") -> Iterator[None]:
    """Run the body of the stage `name`; write the process's wall time to `logs/<name>.json`.

    An error of EXPECTED ends the process with one line and exit code 1, and so does a lack of
    memory; `batch` names the parameters that decide how much of it a stage needs.
    Set VIREID_TRACEBACK=1 to see where the error arose.
    """
    try:
        yield
    except (*EXPECTED, RuntimeError) as error:
        if not isinstance(error, EXPECTED) and not NO_MEMORY.search(str(error)):
            raise
        if os.environ.get("VIREID_TRACEBACK"):
            traceback.print_exc()
        if not is_first():
            time.sleep(PATIENCE)
        sys.exit(f"error in {name}: {' '.join(_explained(error, batch).split())}")
    if is_first():
        write_json(LOGS / f"{name}.json", {"seconds": round(time.perf_counter() - STARTED, 2)})


def _explained(error: Exception, batch: str) -> str:
    """Return what an error says, and what helps against it if the machine has too little."""
    if isinstance(error, MemoryError) or NO_MEMORY.search(str(error)):
        reason = ". ".join(str(error).split(". ")[:2]) or "out of memory"
        if "faiss" in reason:  # names a function, a file and a pointer
            reason = "faiss: out of memory on the GPU (device.name: cpu searches on the CPU)"
        if not batch:
            return reason
        return f"{reason}; lower {batch}, or set device.precision to bfloat16"
    if isinstance(error, OSError) and error.errno in FULL:
        return f"{error}; make room, then the same command goes on from what is finished"
    return str(error)
