"""On which device tensors are and in which precision: the same code for a CPU and a GPU."""

import fcntl
import os
import re
import tempfile
import time
from dataclasses import replace
from functools import cache
from pathlib import Path

import torch

from stages.parts.run.console import message
from stages.parts.run.settings import Device

# With this workspace cuBLAS adds up in the same order in every run, also on several streams.
WORKSPACE = ":4096:8"
# Where Linux shows that there is an NVIDIA GPU, or a driver for one.
GPU, DRIVER = Path("/dev/nvidia0"), Path("/proc/driver/nvidia/version")
OLDEST_DRIVER = "CUDA 13 needs 580 or newer"  # for the torch of requirements.txt
CHOICE = "VIREID_GPU"  # `free`: a process takes the first GPU that no other one has taken
LOCKS = Path(tempfile.gettempdir()) / f"vireid-gpus-{os.getuid()}"


def open_for_stage(stage: str, chosen: Device) -> tuple[torch.device, Device]:
    """Open the device of the section `device` and say what the stage runs on.

    Returns:
        The device, and the section with what `auto` stands for on it.

    Raises:
        ValueError: as `open_device`.
    """
    device = open_device(chosen)
    settings = resolved(chosen, device)
    message(f"{stage}: {described(device, settings)}")
    return device, settings


def open_device(chosen: Device) -> torch.device:
    """Return the device of the section `device`, and fix what its results depend on.

    Sums depend on the number of the CPU's threads, so it is a parameter and not what the machine
    has. On a GPU only deterministic kernels run: an operation without one ends in an error. TF32,
    which rounds the factors of a convolution to 10 bits, is used if `device.precision` asks for it.
    Matrix products are float32 in any case: losses, memory and transport need all their bits.

    Which GPU it is changes no result, so that no parameter says it: the first one of
    CUDA_VISIBLE_DEVICES, or the first free one (VIREID_GPU=free). It becomes torch's current GPU.

    Raises:
        ValueError: if a GPU is asked for and torch can use none.
    """
    torch.set_num_threads(chosen.threads)
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if chosen.name == "cuda" and not count:
        raise ValueError(f"params.yaml: device.name: 'cuda', but {_without_gpu()}")
    if chosen.name == "auto" and not count and _has_idle_gpu():
        message(f"WARNING: {_without_gpu()}; the CPU computes")
    if chosen.name == "cpu" or not count:
        return torch.device("cpu")
    device = torch.device("cuda", _chosen_gpu(count))
    torch.cuda.set_device(device)
    _fix_kernels(chosen.precision)
    return device


def resolved(chosen: Device, device: torch.device) -> Device:
    """Return the section `device` with what `auto` stands for on this device."""
    precision = chosen.precision
    if precision == "auto":
        precision = "bfloat16" if uses_bfloat16(device, precision) else "float32"
    return replace(chosen, name=device.type, precision=precision)


def described(device: torch.device, chosen: Device) -> str:
    """Return in words what a stage runs on, for a resolved section `device`."""
    place = f"the CPU (threads: {chosen.threads})"
    if device.type == "cuda":
        place = torch.cuda.get_device_name(device)
    return f"running on {place}, {chosen.precision}"


def uses_bfloat16(device: torch.device, precision: str) -> bool:
    """Return whether the backbone runs in bfloat16.

    It does if `precision` is bfloat16, and if it is auto on a GPU that supports bfloat16.
    """
    if precision == "auto":
        return device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return precision == "bfloat16"


def _fix_kernels(precision: str) -> None:
    """Let CUDA's libraries take the same kernels in every run."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", WORKSPACE)  # read at the first product
    torch.use_deterministic_algorithms(True)
    # nothing reads memory before it is written
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = False  # the choice of a kernel would depend on timings
    convolution = torch.backends.cudnn.conv  # type: ignore[attr-defined]
    convolution.fp32_precision = "tf32" if precision == "tf32" else "ieee"
    torch.backends.cuda.matmul.fp32_precision = "ieee"


def _has_idle_gpu() -> bool:
    """Return whether the machine has an NVIDIA GPU or a driver, and nobody has hidden it."""
    is_hidden = os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1")
    return not is_hidden and (GPU.exists() or DRIVER.exists())


def _without_gpu() -> str:
    """Return that torch can use no GPU, with the versions that decide it."""
    built = f"CUDA {torch.version.cuda}" if torch.version.cuda else "built without CUDA"
    line = f"torch {torch.__version__} ({built}) can use no GPU"
    if not DRIVER.exists():
        return line
    found = re.search(r"\s(\d+\.\d[\d.]*)\s", DRIVER.read_text(encoding="utf-8"))
    version = found[1] if found else "of an unknown version"
    return f"{line} with the NVIDIA driver {version} ({OLDEST_DRIVER})"


def _chosen_gpu(count: int) -> int:
    """Return the number of the GPU that this process uses, of `count` that torch sees.

    Raises:
        ValueError: if the environment variable has an unknown value.
    """
    if "LOCAL_RANK" in os.environ:  # one of several processes, each of which has its GPU
        number = int(os.environ["LOCAL_RANK"])
        if number >= count:
            raise ValueError(f"process {number + 1} on this machine, but torch sees {count} GPUs")
        return number
    choice = os.environ.get(CHOICE, "")
    if choice not in ("", "free"):
        raise ValueError(f"{CHOICE}={choice} in the environment, expected free or nothing")
    return _free_gpu(count) if choice else 0


@cache
def _free_gpu(count: int) -> int:
    """Return the first GPU that no other process holds, and hold it until this process ends.

    Waits while all are taken. Locks are files that Linux unlocks when their process ends, killed or
    not. Only processes of the same user that also ask for a free GPU see them.
    """
    LOCKS.mkdir(mode=0o700, exist_ok=True)
    has_waited = False
    while True:
        for number in range(count):
            if _hold(str(torch.cuda.get_device_properties(number).uuid)):
                return number
        if not has_waited:
            message(f"waiting for a free GPU: other processes hold all {count}")
        has_waited = True
        time.sleep(1)


def _hold(name: str) -> bool:
    """Lock the file of a GPU until this process ends; return whether it was free."""
    opened = os.open(LOCKS / name, os.O_CREAT | os.O_RDWR, 0o600)
    try:
        fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(opened)
        return False
    return True
