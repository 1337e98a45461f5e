"""How a stage ends: its wall time in a log, or one line that says what was wrong."""

import os
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

from stages import STARTED
from stages.parts.run.files import LOGS, write_json


class InputError(ValueError):
    """Something the user gave is not what was expected; the message is one line that names it."""


# What ends a stage in one line instead of a traceback.
EXPECTED = (
    InputError,
    ValueError,
    FileNotFoundError,
    NotADirectoryError,
    PermissionError,
    FloatingPointError,
)


@contextmanager
def run_stage(name: str) -> Iterator[None]:
    """Run the body of the stage `name`; write the process's wall time to `logs/<name>.json`.

    An error of EXPECTED ends the process with one line and exit code 1.
    Set VIREID_TRACEBACK=1 to see where the error arose.
    """
    try:
        yield
    except EXPECTED as error:
        if os.environ.get("VIREID_TRACEBACK"):
            traceback.print_exc()
        sys.exit(f"error in {name}: {' '.join(str(error).split())}")
    write_json(LOGS / f"{name}.json", {"seconds": round(time.perf_counter() - STARTED, 2)})
