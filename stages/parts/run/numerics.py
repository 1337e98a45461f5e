"""The same bytes on every x86-64 processor with AVX2: which kernels numpy, torch and faiss take.

These libraries choose their kernels by the processor, and kernels differ in the last bits. Training
amplifies that to different figures. `device.numerics: portable` fixes the kernels to those that
every such processor has; `native` leaves the choice to the libraries.

The libraries choose when they are imported. So `stages/__init__.py` calls `choose` before any of
them is. docs/reproducibility.md says what is equal where, what is not, and how to check it.
"""

import os
import platform
from collections.abc import Callable
from pathlib import Path

import yaml

FILE = Path("params.yaml")
PORTABLE = {
    "ATEN_CPU_CAPABILITY": "avx2",
    "FAISS_OPT_LEVEL": "avx2",
    "MKL_CBWR": "COMPATIBLE",  # AVX2 is not enough: MKL takes another path on AMD's processors
    "NPY_DISABLE_CPU_FEATURES": "X86_V4 AVX512_ICL AVX512_SPR",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "OPENBLAS_CORETYPE": "Haswell",
}
# Sums change with the number of threads: it must not be the machine's number of cores.
THREADS = ("MKL_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")
CHOSEN = "VIREID_NUMERICS"  # lists what a parent process of ours has set
# Whether this value of a variable keeps OpenMP from giving so many threads.
FEWER_THREADS: dict[str, Callable[[str, int], bool]] = {
    "OMP_DYNAMIC": lambda value, _: value.lower() in ("true", "1", "yes", "on"),
    "OMP_MAX_ACTIVE_LEVELS": lambda value, _: value == "0",
    "OMP_THREAD_LIMIT": lambda value, threads: value.isdecimal() and 0 < int(value) < threads,
}


def choose(path: Path = FILE) -> None:
    """Set the environment of this process by `device.numerics` and `device.threads` of `path`.

    If the file cannot be read, numerics are portable; `params.py` says what is wrong with it.
    """
    device = _device(path)
    for name in os.environ.pop(CHOSEN, "").split():
        os.environ.pop(name, None)
    if device.get("numerics") == "native" or platform.machine() not in ("x86_64", "AMD64"):
        return
    chosen = dict(PORTABLE)
    threads = device.get("threads")
    if type(threads) is int and threads > 0:
        chosen |= dict.fromkeys(THREADS, str(threads))
    os.environ.update(chosen)
    os.environ[CHOSEN] = " ".join(chosen)


def fewer_threads(threads: int) -> str | None:
    """Return the setting in the environment by which OpenMP gives fewer than `threads` threads.

    None if there is none. oneDNN would wait for the others in its first convolution, without an
    end. Fewer cores are no such case: there are all threads, and they take turns.
    """
    for name, takes_some in FEWER_THREADS.items():
        value = os.environ.get(name, "").strip()
        if threads > 1 and takes_some(value, threads):
            return f"{name}={value}"
    return None


def _device(path: Path) -> dict[str, object]:
    """Return the section `device` of a file, or nothing."""
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError, yaml.YAMLError):
        return {}
    device = tree.get("device") if isinstance(tree, dict) else None
    return device if isinstance(device, dict) else {}
