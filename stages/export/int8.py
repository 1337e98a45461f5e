"""An ONNX file in float32 → the same network with weights and activations of 8 bits."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
from onnxruntime import quantization
from onnxruntime.quantization.quant_utils import add_pre_process_metadata

from stages.export.onnx_file import INPUT

# What becomes 8 bits; the layers in between stay float32: normalization, pooling, neck.
OPERATIONS = ["Conv", "Add", "Relu", "MaxPool"]
DIGITS = 3  # of a range


class _Images(quantization.CalibrationDataReader):  # type: ignore[misc]  # has no types
    """Batches of images, one for each call, as the calibration wants them."""

    def __init__(self, batches: Iterable[np.ndarray]) -> None:
        self.batches: Iterator[np.ndarray] = iter(batches)

    def get_next(self) -> dict[str, np.ndarray] | None:
        """Return the next batch by the name of the input; None after the last one."""
        batch = next(self.batches, None)
        return None if batch is None else {INPUT: batch}


def write_int8(source: Path, path: Path, batches: Iterable[np.ndarray]) -> None:
    """Quantize an ONNX file, by the ranges that its activations have on some images.

    Each output channel of a convolution has a scale of its own. Weights have 7 bits: sums of 8-bit
    products overflow on processors without VNNI.

    Args:
        source: the file in float32.
        path: the file to write.
        batches: images (B, 3, H, W) uint8. They should not be those that the result is tested on.
    """
    with TemporaryDirectory() as place:
        prepared, ranges = Path(place) / "network.onnx", Path(place) / "ranges.json"
        model = onnx.load(source)
        add_pre_process_metadata(model)  # constants are folded already, no warning is needed
        onnx.save(model, prepared)
        quantization.save_tensors_data(_ranges(prepared, batches), ranges)
        quantization.quantize_static(
            prepared,
            path,
            op_types_to_quantize=OPERATIONS,
            per_channel=True,
            reduce_range=True,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
            calibration_cache_path=ranges,
        )


def _ranges(path: Path, batches: Iterable[np.ndarray]) -> quantization.TensorsData:
    """Return the smallest and the largest value of each activation, with few digits.

    The last bits of an activation differ between processors; rounded ranges do not.
    """
    augmented = path.with_name("augmented.onnx")
    calibrator = quantization.create_calibrator(path, OPERATIONS, str(augmented))
    calibrator.collect_data(_Images(batches))
    found = calibrator.compute_data()
    return quantization.TensorsData(
        found.calibration_method,
        {name: tuple(map(_rounded, data.range_value)) for name, data in found.items()},
    )


def _rounded(value: np.ndarray) -> np.ndarray:
    return np.full_like(value, float(f"{value.item():.{DIGITS}g}"))
