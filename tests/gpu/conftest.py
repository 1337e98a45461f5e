"""These tests need a GPU and of packages torch, numpy, scipy, scikit-learn, pandas and pytest.

Run them by `python -m pytest tests/gpu`. Stand-ins replace faiss and DVCLive where these are
missing.
"""

from collections.abc import Iterator

import pytest
import torch

from stages.parts.run.device import open_device
from tests.builders import settings
from tests.gpu import stand_ins

stand_ins.install()  # before the tests import the stages


@pytest.fixture
def gpu() -> Iterator[torch.device]:
    """The GPU as a stage opens it, float32 without TF32. Its kernels are put back."""
    if not torch.cuda.is_available():
        pytest.skip("torch sees no GPU here")
    yield open_device(settings("device", {"device.name": "cuda", "device.precision": "float32"}))
    torch.use_deterministic_algorithms(False)
