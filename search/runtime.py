"""A model and pictures → embeddings, by onnxruntime or, where it is installed, by PyTorch."""

from collections.abc import Callable

import numpy as np

from search.model import Model
from stages.parts.run.stage import InputError

RUNTIMES = ("onnx", "torch")
# (B, 3, H, W) uint8 RGB → (B, D) float32
Network = Callable[[np.ndarray], np.ndarray]


def open_network(model: Model, runtime: str, infrared: bool) -> Network:
    """Return the function that embeds pictures of one modality.

    It takes (B, 3, H, W) uint8 RGB and returns (B, D) float32 rows of length 1. With `flip` in the
    model's facts a row is that of the mean of a picture and its mirror image. It runs in one
    thread, so that equal pictures in equal batches give equal bytes on every number of cores;
    several processes use several cores.

    Args:
        model: which `open_model` returned.
        runtime: `onnx` or `torch`.
        infrared: the modality, which only matters for a network of two streams.

    Raises:
        InputError: if a file has changed, or the runtime is not installed or cannot run it.
    """
    network = _torch_network(model, infrared) if runtime == "torch" else _onnx(model, infrared)

    def embed(images: np.ndarray) -> np.ndarray:
        rows = network(images)
        if model.flip:
            rows = rows + network(np.ascontiguousarray(images[..., ::-1]))
            with np.errstate(invalid="ignore"):  # whoever embeds looks for rows that are not finite
                rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        return rows

    return embed


def _onnx(model: Model, infrared: bool) -> Network:
    try:
        import onnxruntime  # here, because PyTorch can take its place
    except ImportError:
        raise InputError("onnxruntime is not installed: requirements-search.txt has it") from None
    path = model.check_file(model.files["infrared" if infrared else "visible"])
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors
    try:
        session = onnxruntime.InferenceSession(path, options, ["CPUExecutionProvider"])
    except Exception as error:  # its kinds have no common base
        raise InputError(f"{path}: onnxruntime cannot run it: {error}") from None
    names = [each.name for each in session.get_inputs() + session.get_outputs()]
    expected = [model.facts[section]["name"] for section in ("input", "output")]
    if names != expected:
        raise InputError(f"{path}: inputs and outputs {names}; expected {expected}")

    def embed(images: np.ndarray) -> np.ndarray:
        try:
            (rows,) = session.run(names[1:], {names[0]: images})
        except Exception as error:
            raise InputError(f"{path}: onnxruntime cannot run it: {error}") from None
        return _checked(np.asarray(rows), (len(images), model.dimensions), str(path))

    return embed


def _torch_network(model: Model, infrared: bool) -> Network:
    if model.int8:
        raise InputError("--int8 names networks of ONNX; --runtime torch has none of them")
    try:
        from search import torch_runtime  # it imports PyTorch, which takes seconds
    except ImportError:
        raise InputError("--runtime torch needs PyTorch, which is not installed here") from None
    return torch_runtime.open_network(model, infrared)


def _checked(rows: np.ndarray, shape: tuple[int, int], name: str) -> np.ndarray:
    if rows.shape != shape or rows.dtype != np.float32:
        expected = f"expected float32 {shape}"
        raise InputError(f"{name}: the output is {rows.dtype} {rows.shape}; {expected}")
    return rows
