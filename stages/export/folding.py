"""Batch norms behind convolutions → weights of the convolutions, in an ONNX graph."""

from collections import Counter
from collections.abc import Callable

import numpy as np
from onnx import GraphProto, NodeProto, numpy_helper


def fold_norms(graph: GraphProto) -> None:
    """Replace each convolution and the batch norm behind it by one convolution.

        γ (W x + b - μ) / √(σ² + ε) + β  =  (s W) x + s (b - μ) + β,   s = γ / √(σ² + ε)

    torch's exporter could do this, too, but with a square root that differs between processors in
    the last bits. numpy's is exact. Quantization needs the norms folded.
    """
    makers = {output: node for node in graph.node for output in node.output}
    readers = Counter(name for node in graph.node for name in node.input)
    known = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}

    def value(name: str) -> np.ndarray:
        while name not in known:  # equal tensors are stored once, and named by an Identity
            name = makers[name].input[0]
        return known[name]

    for node in list(graph.node):
        convolution = makers.get(node.input[0]) if node.op_type == "BatchNormalization" else None
        if convolution is None or convolution.op_type != "Conv" or readers[node.input[0]] > 1:
            continue
        weight, bias = _folded(node, convolution, value)
        names = [f"{convolution.name}/weight", f"{convolution.name}/bias"]
        graph.initializer.extend(map(numpy_helper.from_array, (weight, bias), names))
        convolution.input[1:] = names
        convolution.output[0] = node.output[0]
        graph.node.remove(node)
    _remove_unused(graph)


def _folded(
    norm: NodeProto, convolution: NodeProto, value: Callable[[str], np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Return the weights (O, I, H, W) and biases (O,) float32 of a convolution with its norm."""
    scale, shift, mean, variance = (value(name).astype(np.float64) for name in norm.input[1:])
    (epsilon,) = (each.f for each in norm.attribute if each.name == "epsilon")
    factor = scale / np.sqrt(variance + epsilon)  # (O,)
    given = [value(name).astype(np.float64) for name in convolution.input[1:]]
    weight = given[0] * factor[:, None, None, None]
    bias = given[1] if len(given) > 1 else np.zeros_like(mean)
    bias = factor * (bias - mean) + shift
    return weight.astype(np.float32), bias.astype(np.float32)


def _remove_unused(graph: GraphProto) -> None:
    """Remove tensors, and other names of tensors, that no node reads any more."""
    outputs = {each.name for each in graph.output}
    used = outputs | {name for node in graph.node for name in node.input}
    for node in list(graph.node):
        if node.op_type == "Identity" and node.output[0] not in used:
            graph.node.remove(node)
    used = outputs | {name for node in graph.node for name in node.input}
    for tensor in list(graph.initializer):
        if tensor.name not in used:
            graph.initializer.remove(tensor)
