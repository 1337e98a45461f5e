"""DVC as a child process that ends, with its stage, when the comparison is interrupted."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

# Signals that end DVC and the stage, and the seconds to wait for each: DVC puts its files in order.
PATIENCE = ((signal.SIGINT, 60), (signal.SIGTERM, 10), (signal.SIGKILL, 5))


def call_dvc(
    arguments: Sequence[str],
    folder: Path,
    output: IO[str],
    tick: Callable[[], None],
    lock: IO[str],
) -> int:
    """Call DVC in `folder`, and `tick` each second until it ends. Return its exit code.

    An interruption also ends DVC and the stage. If this process is killed instead, DVC holds the
    open file `lock` until it ends.
    """
    environment = os.environ | {
        # Stages are called as `python -m …`: this Python, also if it was not activated.
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
        "DVC_NO_ANALYTICS": "1",
        "PYTHONUNBUFFERED": "1",
        # Relative paths of params.yaml and checkpoints are those of the user's checkout.
        "VIREID_ROOT": str(Path.cwd()),
    }
    child = subprocess.Popen(
        [sys.executable, "-m", "dvc", *arguments],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        env=environment,
        pass_fds=[lock.fileno()],
        start_new_session=True,  # one group, so that the stage ends with DVC
    )
    try:
        while True:
            with suppress(subprocess.TimeoutExpired):
                return child.wait(timeout=1)
            tick()
    except BaseException:
        _end(child)
        raise


def _end(child: subprocess.Popen[bytes]) -> None:
    for number, seconds in PATIENCE:
        with suppress(ProcessLookupError):
            os.killpg(child.pid, number)
        with suppress(subprocess.TimeoutExpired, KeyboardInterrupt):
            child.wait(timeout=seconds)
            break
    with suppress(ProcessLookupError):  # a stage that outlived DVC
        os.killpg(child.pid, signal.SIGKILL)
