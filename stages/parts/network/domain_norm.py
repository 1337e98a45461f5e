"""Batch normalization with statistics of its own for each domain, and over smaller groups than the batch."""

import copy
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm as BatchNorm


class DomainNorm(nn.Module):
    """A batch norm for the target domain and, where there is a source, another one for it.

    Training: the first half of the batch is the source's, the second half the target's; without a source all of it is
    the target's. Each domain is normalized in groups of `group` consecutive images (None: all together), each group by
    its own mean and variance; the running statistics follow the first group only. This is what SpCL's released code
    does on its four GPUs, where each sees 16 source and 16 target images of 64 + 64.
    Evaluation: everything goes through the target's running statistics.
    """

    def __init__(
        self, target: BatchNorm, source: BatchNorm | None = None, group: int | None = None
    ) -> None:
        """ValueError for a group of fewer than two images, which has no variance."""
        super().__init__()
        if group is not None and group < 2:
            raise ValueError(
                f"a group of {group} images has no variance; expected 2 or more, or None for all"
            )
        self.source = source
        self.target = target
        self.group = group
        self.train(target.training)

    def forward(self, images: Tensor) -> Tensor:
        """(B, C) or (B, C, H, W) -> the same shape. ValueError where B does not divide into domains and groups."""
        if not self.training:
            return self.target(images)
        if self.source is None:
            return torch.cat(self._groups(self.target, images))
        if len(images) % 2:
            raise ValueError(
                f"a batch of {len(images)} images has no halves; expected as many source as target images"
            )
        source, target = images.chunk(2)
        return torch.cat(self._groups(self.source, source) + self._groups(self.target, target))

    def _groups(self, norm: BatchNorm, images: Tensor) -> list[Tensor]:
        """The normalized groups of one domain's images."""
        if self.group is None:
            return [norm(images)]
        if len(images) % self.group:
            raise ValueError(
                f"{len(images)} images of a domain do not divide into groups of {self.group}"
            )
        first, *others = images.split(self.group)
        return [norm(first)] + [
            F.batch_norm(group, None, None, norm.weight, norm.bias, training=True, eps=norm.eps)
            for group in others
        ]


def split_domains(
    module: nn.Module, group: int | None = None, keep_frozen: bool = False
) -> nn.Module:
    """Replace every batch norm of `module` by a (source, target) pair with equal state; returns the module.

    The pairs are trainable in all their weights. `keep_frozen=True` copies `requires_grad` too. SpCL's released code
    does not, so its neck's bias, frozen without a source, is trained with one: the default here. Build the optimizer
    after this call.
    """

    def pair(norm: BatchNorm) -> DomainNorm:
        both = DomainNorm(norm, copy.deepcopy(norm), group)
        return both if keep_frozen else both.requires_grad_(True)

    return _replace(module, BatchNorm, pair)


def group_statistics(module: nn.Module, group: int) -> nn.Module:
    """Make every batch norm of `module` normalize in groups (one domain, nothing is copied); returns the module."""
    return _replace(module, BatchNorm, lambda norm: DomainNorm(norm, group=group))


def keep_target(module: nn.Module) -> nn.Module:
    """Undo `split_domains` or `group_statistics`: plain batch norms with the target's state; returns the module.

    The names in the state dict are those of the plain network again.
    """
    return _replace(module, DomainNorm, lambda norm: norm.target)


def _replace(module: nn.Module, kind: type[nn.Module], by: Callable[[Any], nn.Module]) -> nn.Module:
    """Replace `module` itself or all modules of a kind below it, without looking inside what was replaced."""
    if isinstance(module, kind):
        return by(module)
    for name, child in module.named_children():
        setattr(module, name, _replace(child, kind, by))
    return module
