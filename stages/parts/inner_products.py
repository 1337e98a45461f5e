"""Inner products of rows by faiss, on the CPU or on the GPU that the caller names.

Search (`retrieval/index.py`) and clustering (`clustering/neighbours.py`) are made of them.
"""

from functools import cache

import faiss
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Floats = NDArray[np.float32]
Integers = NDArray[np.int64]

CPU = torch.device("cpu")
METRIC = faiss.METRIC_INNER_PRODUCT


class Gallery:
    """Rows that queries are compared with. On a GPU they are uploaded once, here.

    Attributes:
        is_on_gpu: whether faiss uses the GPU. It does if the device is a GPU and this build of
            faiss has GPUs.
    """

    def __init__(self, rows: Floats, device: torch.device = CPU) -> None:
        """`rows` are (G, D) float32, contiguous."""
        self.is_on_gpu = bool(device.type == "cuda" and faiss.get_num_gpus() and len(rows))
        self._rows = rows
        self._device = device
        if self.is_on_gpu:
            torch.cuda.empty_cache()  # faiss cannot use what torch keeps for later
            self._number = device.index or 0
            self._resources = _resources(self._number)
            self._uploaded = self._upload(rows)

    def products(self, queries: Floats) -> Floats:
        """Return the inner products (q, G) float32 of queries (q, D) float32, contiguous."""
        products: Floats
        if not self.is_on_gpu:
            products = faiss.pairwise_distances(queries, self._rows, METRIC)
            return products
        found: Tensor = faiss.pairwise_distance_gpu(
            self._resources,
            self._upload(queries),
            self._uploaded,
            metric=METRIC,
            device=self._number,
        )
        products = found.cpu().numpy()
        return products

    def nearest(self, queries: Floats, count: int) -> tuple[Integers, Floats]:
        """Return the rows of the largest products of each query (q, count), and these products.

        Largest first. Only on a GPU: on a CPU this search of faiss gives other bits on other
        processors.
        """
        largest, nearest = faiss.knn_gpu(
            self._resources,
            self._upload(queries),
            self._uploaded,
            count,
            metric=METRIC,
            device=self._number,
        )
        return nearest.cpu().numpy(), largest.cpu().numpy()

    def _upload(self, rows: Floats) -> Tensor:
        return torch.from_numpy(rows).to(self._device)


@cache
def _resources(number: int) -> "faiss.StandardGpuResources":
    """Return faiss's resources on a GPU: once in a process, because their memory is not shared."""
    import faiss.contrib.torch_utils  # lets faiss take tensors

    return faiss.StandardGpuResources()
