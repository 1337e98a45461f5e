"""Inner products on a pretended GPU: what faiss is asked, how often rows are uploaded."""

import inspect
from functools import partial

import faiss
import numpy as np
import pytest
import torch

from stages.parts import inner_products
from stages.parts.clustering.neighbours import jaccard_similarity
from stages.parts.retrieval.index import inner_product_blocks

GPU = torch.device("cuda", 1)


@pytest.fixture
def asked(monkeypatch):
    """What the pretended GPU was asked: names of calls, devices, numbers of uploaded rows.

    Its functions take what faiss's functions for tensors take, and compute on the CPU.
    """
    import faiss.contrib.torch_utils as tensors

    asked: list[tuple] = []

    def pretended(name):
        signature = inspect.signature(getattr(tensors, f"torch_replacement_{name}"))

        def call(*positional, **named):
            arguments = signature.bind(*positional, **named).arguments
            assert arguments["metric"] == faiss.METRIC_INNER_PRODUCT
            asked.append((name, arguments["res"], arguments["device"]))
            products = arguments["xq"] @ arguments["xb"].T
            return products if name == "pairwise_distance_gpu" else products.topk(arguments["k"])

        return call

    def to(rows, device):
        asked.append(("upload", len(rows), device.index))
        return rows

    for name in ("pairwise_distance_gpu", "knn_gpu"):
        monkeypatch.setattr(faiss, name, pretended(name))
    numbers = iter(range(9))
    monkeypatch.setattr(faiss, "get_num_gpus", lambda: 2)
    monkeypatch.setattr(faiss, "StandardGpuResources", partial(next, numbers), raising=False)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: asked.append(("empty_cache",)))
    monkeypatch.setattr(torch.Tensor, "to", to)
    inner_products._resources.cache_clear()
    yield asked
    inner_products._resources.cache_clear()


def test_the_gallery_is_uploaded_once(asked):
    rows = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)
    for _ in range(2):
        blocks = list(inner_product_blocks(rows[:4], rows, size=12, device=GPU))
        found = np.concatenate([values for _, values in blocks])
        np.testing.assert_allclose(found, rows[:4] @ rows.T, atol=1e-5)
    block = [("upload", 2, 1), ("pairwise_distance_gpu", 0, 1)]
    assert asked == 2 * [("empty_cache",), ("upload", 6, 1), *block, *block]


def test_each_gpu_has_resources_of_its_own(asked):
    for device in (GPU, torch.device("cuda", 0), GPU):
        list(inner_product_blocks(np.eye(2), np.eye(2), device=device))
    searches = [call for call in asked if call[0] == "pairwise_distance_gpu"]
    assert searches == [("pairwise_distance_gpu", *place) for place in ((0, 1), (1, 0), (0, 1))]


def test_the_cpu_is_never_a_gpu(asked):
    """Although faiss sees two."""
    rows = np.eye(4, dtype=np.float32)
    list(inner_product_blocks(rows, rows))
    jaccard_similarity(rows, k1=2, k2=1)
    assert not asked


def test_neighbours_on_a_gpu_are_those_of_the_cpu(asked):
    rows = np.random.default_rng(1).normal(size=(60, 8)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    modality = np.arange(60) % 2
    for parts in (None, modality):
        expected = jaccard_similarity(rows, 8, 2, modality=parts)
        found = jaccard_similarity(rows, 8, 2, modality=parts, device=GPU)
        assert abs(found - expected).max() < 1e-5
    assert [call[0] for call in asked if call[0] != "upload"] == 3 * ["empty_cache", "knn_gpu"]


def test_a_build_of_faiss_without_gpus_searches_on_the_cpu(asked, monkeypatch):
    monkeypatch.setattr(faiss, "get_num_gpus", lambda: 0)
    list(inner_product_blocks(np.eye(2), np.eye(2), device=GPU))
    list(inner_product_blocks(np.eye(2), np.empty((0, 2)), device=GPU))
    assert not asked
