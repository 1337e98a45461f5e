"""On which device tensors are and in which precision: the same code for a CPU and a GPU."""

import os

import torch

from stages.parts.run.settings import Device

# With this workspace cuBLAS adds up in the same order in every run, also on several streams.
WORKSPACE = ":4096:8"


def open_device(chosen: Device) -> torch.device:
    """Return the device of the section `device`, and fix what its results depend on.

    Sums depend on the number of the CPU's threads, so it is a parameter and not what the machine
    has. On a GPU only deterministic kernels run: an operation without one ends in an error. TF32,
    which rounds the factors of a convolution to 10 bits, is used if `device.precision` asks for it.
    Matrix products are float32 in any case: losses, memory and transport need all their bits.

    Raises:
        ValueError: for a GPU that is not there.
    """
    torch.set_num_threads(chosen.threads)
    name = chosen.name
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    device = torch.device(name)
    if device.type == "cuda":
        if "LOCAL_RANK" in os.environ:  # one of several processes, each of which has its GPU
            device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        count = torch.cuda.device_count()
        if (device.index or 0) >= count:
            raise ValueError(f"params.yaml: device.name: {name!r}, but {count} GPUs are here")
        device = torch.device("cuda", device.index or 0)
        _fix_kernels(chosen.precision)
    return device


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


def uses_bfloat16(device: torch.device, precision: str) -> bool:
    """Return whether the backbone runs in bfloat16.

    It does if `precision` is bfloat16, and if it is auto on a GPU that supports bfloat16.
    """
    if precision == "auto":
        return device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return precision == "bfloat16"
