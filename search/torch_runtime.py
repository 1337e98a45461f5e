"""The network of an exported model in PyTorch, from its safetensors."""

from functools import partial

import numpy as np
import torch

from search.model import FACTS, WEIGHTS, Model
from search.runtime import Network
from stages.parts.images.augment import normalize
from stages.parts.network.backbone import Extras
from stages.parts.network.head import Embedder
from stages.parts.run.stage import InputError
from stages.parts.run.tensors import load_tensors


def open_network(model: Model, infrared: bool) -> Network:
    """Return the function (B, 3, H, W) uint8 → (B, D) float32 rows of length 1, on the CPU.

    Raises:
        InputError: if the file has changed or does not fit the architecture of model.json.
    """
    path = model.check_file(WEIGHTS)
    try:
        network = Embedder(model.facts["architecture"], Extras.of(model.facts.get("extras", {})))
        network.restore(load_tensors(path)[0])
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise InputError(f"{path} does not fit {FACTS}: {error}") from None
    torch.set_num_threads(1)
    network.eval()
    forward = partial(network, visible=0 if infrared and model.two_stream else None)

    @torch.no_grad()
    def embed(images: np.ndarray) -> np.ndarray:
        rows: np.ndarray = forward(normalize(torch.from_numpy(images))).numpy()
        return rows

    return embed
