"""One stage on several processes: one for each GPU, or several on a CPU.

`VIREID_PROCESSES=4 dvc repro` starts each stage that trains or embeds four times on this machine.
`VIREID_TORCHRUN="--nnodes=2 --nproc-per-node=8 …"` takes torchrun's own options, for several
machines. Both are about where a stage runs, so they are no parameters: the result is the same.
docs/gpu.md says how to use them.
"""

import logging
import os
import re
import shlex
import signal
import sys
import time
from collections.abc import Callable

from stages.parts.run.console import end_by_signal, end_with_parent
from stages.parts.run.stage import PATIENCE, InputError
from stages.parts.run.world import close_world

# What gloo and nccl say when another process is gone.
LOST = re.compile(r"gloo|nccl|connection (closed|reset)", re.IGNORECASE)
PROCESSES, TORCHRUN = "VIREID_PROCESSES", "VIREID_TORCHRUN"


def run(main: Callable[[], None]) -> None:
    """Run the `main` of a stage in this process, or in the processes that the user asks for.

    Raises:
        InputError: if an environment variable is wrong, or one of the processes ends early; all
            others have been ended then.
    """
    options = _options()
    if "WORLD_SIZE" in os.environ:  # this is one of them
        _leave_signals_to_the_launcher()
        _run_one(main)
    elif options:
        _launch(options)
    else:
        main()


def _run_one(main: Callable[[], None]) -> None:
    """Run `main` in one of several processes."""
    try:
        main()
    except RuntimeError as error:
        if not LOST.search(str(error)):
            raise
        time.sleep(PATIENCE)  # in which the launcher, which knows what happened, ends this process
        raise InputError(f"another process has ended: {error}") from None
    close_world()


def _options() -> list[str]:
    """Return torchrun's options, from the environment; none for one process."""
    text = os.environ.get(PROCESSES, "1").strip()
    if not text.isascii() or not text.isdecimal() or int(text) < 1:
        raise InputError(f"{PROCESSES}={text}: expected a number of processes, as 4")
    if torchrun := os.environ.get(TORCHRUN, "").strip():
        return shlex.split(torchrun)
    if int(text) == 1:
        return []
    return ["--standalone", "--local-addr=localhost", f"--nproc-per-node={text}"]


def _launch(options: list[str]) -> None:
    """Start this stage in several processes by torchrun, and wait for their end."""
    # here, since a stage in one process needs none of it
    from torch.distributed import run as torchrun
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    logging.disable(logging.CRITICAL)  # what a person needs is said below
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # or torchrun says that it does this
    if "--standalone" in options:  # no name of this machine has to be known, and no one listens
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    stage = sys.modules["__main__"].__spec__
    assert stage is not None  # `python -m stages.…`
    module = stage.name.removesuffix(".__main__")
    try:
        arguments = torchrun.parse_args([*options, "--module", module])
    except SystemExit:
        raise InputError(f"{TORCHRUN}: torchrun refuses its options") from None
    try:
        torchrun.run(arguments)
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        if failure.exitcode >= 0:  # it has said why
            sys.exit(failure.exitcode)
        raise InputError(
            f"process {rank} ended by {signal.Signals(-failure.exitcode).name}, so the others were "
            "ended; the same command goes on from what is finished"
        ) from None
    except SignalException as error:
        end_by_signal(int(error.sigval))


def _leave_signals_to_the_launcher() -> None:
    """End with the launcher, and at once when it says so, also while waiting for the others."""
    end_with_parent()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
