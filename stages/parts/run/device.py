"""Where tensors live and in which precision: the same code on a CPU and on a GPU."""

import torch


def open_device(name: str, threads: int) -> torch.device:
    """The device that `name` (`auto`, `cpu`, `cuda`, `cuda:1`) stands for; the CPU gets a fixed number of threads.

    Sums change with the number of threads, so it is a parameter and not what the machine happens to have.
    Raises ValueError for a name that torch does not know or a GPU that is not there.
    """
    torch.set_num_threads(threads)
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ValueError(
            f"params.yaml: device.name: {name!r} is not auto, cpu, cuda or cuda:<number>"
        ) from None
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ValueError(
            f"params.yaml: device.name: {name!r}, but {torch.cuda.device_count()} GPUs are here"
        )
    if device.type == "cuda":
        torch.backends.cudnn.benchmark = False  # the choice of algorithm would depend on timings
        torch.backends.cudnn.deterministic = True
    return device


def uses_bfloat16(device: torch.device, precision: str) -> bool:
    """Whether the backbone runs in bfloat16: where asked for, and with `auto` on a GPU that has it."""
    if precision == "auto":
        return device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return precision == "bfloat16"
