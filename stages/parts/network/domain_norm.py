"""Batch normalization with own statistics for each domain and for small groups of a batch."""

import copy
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm as BatchNorm


class DomainNorm(nn.Module):
    """A batch norm for the target domain and, if there is a source domain, another one for it.

    In training, the first half of a batch is of the source and the second half of the target;
    without a source, all images are of the target. Each domain is normalized in groups of `group`
    consecutive images (None: all together), each group by its own mean and variance. The running
    statistics follow the first group only. SpCL's released code does the same on its four GPUs,
    each of which sees 16 source and 16 target images of 64 + 64.
    In evaluation, all images are normalized by the target's running statistics.
    """

    def __init__(
        self, target: BatchNorm, source: BatchNorm | None = None, group: int | None = None
    ) -> None:
        """ValueError for a group of fewer than two images, which has no variance."""
        super().__init__()
        if group is not None and group < 2:
            problem = f"a group of {group} images has no variance"
            raise ValueError(f"{problem}; expected 2 or more, or None for all")
        self.source = source
        self.target = target
        self.group = group
        self.train(target.training)

    def forward(self, images: Tensor) -> Tensor:
        """Return a batch (B, C) or (B, C, H, W) normalized.

        Raises:
            ValueError: if B does not divide into domains and groups.
        """
        if not self.training:
            running: Tensor = self.target(images)  # by the running statistics
            return running
        if self.source is None:
            return torch.cat(self._groups(self.target, images))
        if len(images) % 2:
            problem = f"a batch of {len(images)} images has no halves"
            raise ValueError(f"{problem}; expected as many source as target images")
        source, target = images.chunk(2)
        normalized = self._groups(self.source, source) + self._groups(self.target, target)
        return torch.cat(normalized)

    def _groups(self, norm: BatchNorm, images: Tensor) -> list[Tensor]:
        """Return the normalized groups of the images of one domain."""
        if self.group is None:
            return [norm(images)]
        if len(images) % self.group:
            problem = "images of a domain do not divide into groups of"
            raise ValueError(f"{len(images)} {problem} {self.group}")
        first, *others = images.split(self.group)
        normalized = [norm(first)]
        scale, shift, eps = norm.weight, norm.bias, norm.eps
        for group in others:
            # Without running statistics, which follow the first group only.
            apart = F.batch_norm(group, None, None, scale, shift, training=True, eps=eps)
            normalized.append(apart)
        return normalized


def split_domains(
    module: nn.Module, group: int | None = None, keep_frozen: bool = False
) -> nn.Module:
    """Replace every batch norm by a (source, target) pair with equal state; return the module.

    Build the optimizer after this call.

    Args:
        module: changed in place, unless it is a batch norm itself.
        group: the number of images that are normalized together; None for a whole domain.
        keep_frozen: frozen weights stay frozen in both. By default all weights of the pair are
            trainable, as in SpCL's released code: the bias of its neck is frozen without a source
            and trained with one.
    """

    def pair(norm: BatchNorm) -> DomainNorm:
        both = DomainNorm(norm, copy.deepcopy(norm), group)
        return both if keep_frozen else both.requires_grad_(True)

    return _replace(module, BatchNorm, pair)


def group_statistics(module: nn.Module, group: int) -> nn.Module:
    """Make every batch norm of `module` normalize in groups, of one domain; return the module."""
    return _replace(module, BatchNorm, lambda norm: DomainNorm(norm, group=group))


def keep_target(module: nn.Module) -> nn.Module:
    """Undo `split_domains` or `group_statistics`: keep the target's batch norms; return the module.

    The names in its state dict are those of the plain network again.
    """
    return _replace(module, DomainNorm, lambda norm: norm.target)


def _replace(module: nn.Module, kind: type[nn.Module], by: Callable[[Any], nn.Module]) -> nn.Module:
    """Replace all modules of a kind, `module` included; what was replaced is not searched."""
    if isinstance(module, kind):
        return by(module)
    for name, child in module.named_children():
        setattr(module, name, _replace(child, kind, by))
    return module
