"""On which device tensors are and in which precision: the same code for a CPU and a GPU."""

import torch


def open_device(name: str, threads: int) -> torch.device:
    """Return the device called `name`, and give the CPU a fixed number of threads.

    Sums depend on the number of threads, so it is a parameter and not what the machine has. The
    name is auto (a GPU if there is one), cpu, cuda or cuda:<number>.

    Raises:
        ValueError: for a name that torch does not know, or for a GPU that is not there.
    """
    torch.set_num_threads(threads)
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    where = f"params.yaml: device.name: {name!r}"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ValueError(f"{where} is not auto, cpu, cuda or cuda:<number>") from None
    if device.type == "cuda":
        count = torch.cuda.device_count()
        if (device.index or 0) >= count:
            raise ValueError(f"{where}, but {count} GPUs are here")
        torch.backends.cudnn.benchmark = False  # the choice of algorithm would depend on timings
        torch.backends.cudnn.deterministic = True
    return device


def uses_bfloat16(device: torch.device, precision: str) -> bool:
    """Return whether the backbone runs in bfloat16.

    It does if `precision` is bfloat16, and if it is auto on a GPU that supports bfloat16.
    """
    if precision == "auto":
        return device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return precision == "bfloat16"
