"""A network → an ONNX file; an ONNX file and images of a store → embeddings."""

import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from torch import Tensor, nn

from stages.export.folding import fold_norms
from stages.parts.images.augment import normalize
from stages.parts.images.store import ImageStore
from stages.parts.network.head import Embedder
from stages.parts.run.console import progress

OPSET = 18  # of ONNX; onnxruntime has it since version 1.14
INPUT, OUTPUT = "images", "embeddings"
ERRORS_ONLY = 3  # onnxruntime's level of messages


class _FromBytes(nn.Module):
    """What the file computes: images (B, 3, H, W) uint8 → embeddings (B, D) float32."""

    def __init__(self, network: Embedder, visible: int | None) -> None:
        super().__init__()
        self.network = network
        self.visible = visible

    def forward(self, images: Tensor) -> Tensor:
        embeddings: Tensor = self.network(normalize(images), self.visible)
        return embeddings


def write_onnx(
    path: Path, network: Embedder, height: int, width: int, visible: int | None = None
) -> None:
    """Write a network as an ONNX file with the input `images` and the output `embeddings`.

    The number of images is free, their size is not. Equal weights give equal bytes: torch's older
    exporter, which records one pass, names values by their place in the network, and notes neither
    paths nor times. It also needs fewer packages than the newer one.

    Args:
        path: the file.
        network: on the CPU, in float32.
        height: of its images.
        width: of its images.
        visible: None for visible images, 0 for infrared ones, for a network of two streams.
    """
    example = torch.zeros(2, 3, height, width, dtype=torch.uint8)
    normalize(example)  # keeps mean and deviation: the first pass would record how they are made
    with warnings.catch_warnings():
        # that the exporter is the older one, and that the stem of the first pass is recorded
        warnings.simplefilter("ignore")
        torch.onnx.export(
            _FromBytes(network, visible).eval(),
            (example,),
            path,
            opset_version=OPSET,
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_axes={INPUT: {0: "N"}, OUTPUT: {0: "N"}},
            dynamo=False,
            training=torch.onnx.TrainingMode.PRESERVE,  # norms stay norms: `fold_norms` is exact
        )
    model = onnx.load(path)
    fold_norms(model.graph)
    model.producer_version = ""  # torch's builds for a CPU and for a GPU have other names
    size = model.graph.output[0].type.tensor_type.shape.dim[1]
    size.dim_value = network.backbone.sizes[-1]
    onnx.checker.check_model(model, full_check=True)
    path.write_bytes(model.SerializeToString(deterministic=True))


def embed_onnx(
    files: Mapping[str, Path],
    store: ImageStore,
    rows: np.ndarray,
    batch: int,
    threads: int,
    flip: bool = False,
) -> np.ndarray:
    """Return the embeddings (N, D) float32 of the images `rows` (N,) of a store by ONNX files.

    Args:
        files: the file for the images of each modality.
        store: the images, in the size that the files take.
        rows: which of them.
        batch: images in one pass.
        threads: of the CPU.
        flip: average the embeddings of an image and of its mirror image.
    """
    modality = store.table["modality"].to_numpy()[rows]
    sessions = {name: open_onnx(path, threads) for name, path in files.items()}
    dimensions = next(iter(sessions.values())).get_outputs()[0].shape[1]
    values = np.empty((len(rows), dimensions), dtype=np.float32)
    for name, session in sessions.items():
        positions = np.flatnonzero(modality == name)
        what = f"{name} images through {files[name].name}"
        images = batches(store, rows[positions], batch, what)
        parts = [_embeddings(session, each, flip) for each in images]
        if parts:
            values[positions] = np.concatenate(parts)
    return values


def batches(store: ImageStore, rows: np.ndarray, size: int, what: str) -> Iterator[np.ndarray]:
    """Yield the images `rows` (N,) of a store in batches (B, 3, H, W) uint8; a bar shows `what`."""
    for start in progress(range(0, len(rows), size), what, "batch"):
        images = store.pixels[rows[start : start + size]]  # (B, H, W, 3)
        yield np.ascontiguousarray(images.transpose(0, 3, 1, 2))


def open_onnx(path: Path, threads: int) -> onnxruntime.InferenceSession:
    """Return a session that runs the file on the CPU with so many threads."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = ERRORS_ONLY
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def _embeddings(
    session: onnxruntime.InferenceSession, images: np.ndarray, flip: bool
) -> np.ndarray:
    """Return the embeddings (B, D) of images (B, 3, H, W) uint8."""
    values: np.ndarray = session.run([OUTPUT], {INPUT: images})[0]
    if flip:
        mirrored = np.ascontiguousarray(images[..., ::-1])
        values = values + session.run([OUTPUT], {INPUT: mirrored})[0]
        values /= np.linalg.norm(values, axis=1, keepdims=True)
    return values
