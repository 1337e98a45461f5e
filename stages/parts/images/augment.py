"""Augmentation as functions of a batch that is on the device already.

All random numbers are drawn on the CPU from the generator that the caller passes. So a run on a
GPU sees the same pictures as a run on a CPU.
"""

from functools import cache

import torch
from torch import Generator, Tensor
from torch.nn import functional

from stages.parts.upload import upload

MEAN = (0.485, 0.456, 0.406)
DEVIATION = (0.229, 0.224, 0.225)
LUMA = (0.299, 0.587, 0.114)  # ITU-R 601-2
RECTANGLES = 10  # that `erase` draws for each image
Limits = tuple[float, float]


def normalize(images: Tensor) -> Tensor:
    """Return images (B, 3, H, W), 0 to 255, as float32 normalized by ImageNet's statistics."""
    mean, deviation = _color(MEAN, images.device), _color(DEVIATION, images.device)
    return (images.float() / 255 - mean) / deviation


def resize(images: Tensor, height: int, width: int) -> Tensor:
    """Return float images (B, 3, H, W), 0 to 255, as (B, 3, height, width).

    The interpolation is bicubic with antialiasing. It overshoots at edges, so values are clipped
    to 0 to 255, as in a picture of bytes. Images that have the size already are left as they are.
    """
    size = (height, width)
    if images.shape[2:] == size:
        return images
    resized = functional.interpolate(images, size, mode="bicubic", antialias=True)
    return resized.clamp(0, 255)


def flip(images: Tensor, chance: float, generator: Generator) -> Tensor:
    """Mirror each image (B, 3, H, W) left to right with the given chance."""
    return torch.where(_chosen(images, chance, generator), images.flip(3), images)


def grayscale(images: Tensor, chance: float, generator: Generator) -> Tensor:
    """Replace the channels of float images (B, 3, H, W) by luma with the given chance.

    Luma is that of ITU-R 601-2; all three channels get it.
    """
    luma = (images * _color(LUMA, images.device)).sum(1, keepdim=True)  # (B, 1, H, W)
    return torch.where(_chosen(images, chance, generator), luma.expand_as(images), images)


def mixture(images: Tensor, chance: float, generator: Generator, gamma: Limits = (1, 1)) -> Tensor:
    """Replace the channels of images by one random mixture of them with the given chance.

    A picture of another spectrum than the camera's: x = 255 · (Σ_c w_c x_c / 255) ^ g, where the
    weights w of an image are uniform in 0 to 1, divided by their sum, and its exponent g is
    uniform within `gamma`. All three channels get x.

    Args:
        images: (B, 3, H, W) float, 0 to 255.
        chance: of an image to be replaced. With 0 nothing is drawn.
        generator: the source of all draws.
        gamma: limits of the exponent.

    Returns:
        (B, 3, H, W).
    """
    if chance == 0:
        return images
    shape = (len(images), 1, 1, 1)
    weights = torch.rand(len(images), 3, 1, 1, generator=generator)
    weights = upload(weights / weights.sum(1, keepdim=True), images.device)
    exponents = torch.empty(shape).uniform_(*gamma, generator=generator)
    mixed = (images * weights).sum(1, keepdim=True)  # (B, 1, H, W)
    mixed = 255 * (mixed / 255).pow(upload(exponents, images.device))
    return torch.where(_chosen(images, chance, generator), mixed.expand_as(images), images)


def exchange(images: Tensor, chance: float, generator: Generator) -> Tensor:
    """Replace the channels of images by one of them, drawn at random, with the given chance.

    This is the channel exchange of CAJL (Ye et al., ICCV 2021). Images are (B, 3, H, W). With
    chance 0 nothing is drawn.
    """
    if chance == 0:
        return images
    channel = upload(torch.randint(3, (len(images),), generator=generator), images.device)
    single = images[torch.arange(len(images), device=images.device), channel]  # (B, H, W)
    chosen = _chosen(images, chance, generator)
    return torch.where(chosen, single[:, None].expand_as(images), images)


def brightness(images: Tensor, gamma: Limits, generator: Generator) -> Tensor:
    """Raise images to a random power: x → 255 · (x / 255) ^ g, with g uniform within `gamma`.

    Images are (B, 3, H, W) float, 0 to 255. With the limits (1, 1) nothing is drawn.
    """
    if gamma == (1, 1):
        return images
    exponents = torch.empty(len(images), 1, 1, 1).uniform_(*gamma, generator=generator)
    return 255 * (images / 255).pow(upload(exponents, images.device))


def pad_and_crop(images: Tensor, pad: int, generator: Generator) -> Tensor:
    """Shift each image (B, 3, H, W) by up to `pad` pixels in each direction; the border gets 0.

    This is the same as padding with 0 on every side and cropping the former size at random.
    """
    if pad == 0:
        return images
    device = images.device
    count, _, height, width = images.shape
    padded = functional.pad(images, (pad, pad, pad, pad))
    padded = padded.permute(0, 2, 3, 1)  # (B, H + 2 pad, W + 2 pad, 3)
    offsets = torch.randint(2 * pad + 1, (2, count, 1), generator=generator)
    top, left = upload(offsets, device)  # (B, 1) each
    rows = top + torch.arange(height, device=device)  # (B, H)
    columns = left + torch.arange(width, device=device)  # (B, W)
    image = torch.arange(count, device=device)[:, None, None]  # (B, 1, 1)
    cropped = padded[image, rows[:, :, None], columns[:, None, :]]  # (B, H, W, 3)
    return cropped.permute(0, 3, 1, 2)  # (B, 3, H, W), channels last in memory


def erase(
    images: Tensor,
    chance: float,
    generator: Generator,
    area: Limits = (0.02, 0.33),
    uniform_ratio: bool = False,
    value: tuple[float, float, float] = (0.0, 0.0, 0.0),
    one_channel: bool = False,
) -> Tensor:
    """Overwrite one rectangle of each normalized image with the given chance.

    The defaults are torchvision's, which OTLA uses. SpCL uses `area=(0.02, 0.4)`,
    `uniform_ratio=True` and `value=MEAN`: the mean, but as a color in *normalized* space.
    Ten rectangles are drawn for each image, and the first one that fits is taken.

    Args:
        images: (B, 3, H, W), normalized.
        chance: of an image to lose a rectangle.
        generator: the source of all draws.
        area: limits of the rectangle's share of the image, which is uniform between them.
        uniform_ratio: the aspect ratio is uniform in 0.3 to 1 / 0.3 instead of log-uniform in 0.3
            to 3.3.
        value: what is written into the three channels.
        one_channel: write into one channel only, drawn for each image (CAJL's channel erasing).

    Returns:
        (B, 3, H, W).
    """
    count, _, height, width = images.shape
    share = torch.empty(count, RECTANGLES).uniform_(*area, generator=generator)
    ratio = _ratios(count, uniform_ratio, generator)
    tall = (share * ratio * height * width).pow(0.5).round()  # (B, 10)
    wide = (share / ratio * height * width).pow(0.5).round()  # (B, 10)
    place_y, place_x = torch.rand(2, count, generator=generator)  # (B,) each
    chosen = torch.rand(count, generator=generator) < chance

    fits = (tall < height) & (wide < width)
    first = fits.int().argmax(1, keepdim=True)
    tall = tall.gather(1, first).squeeze(1)  # (B,)
    wide = wide.gather(1, first).squeeze(1)  # (B,)
    top = (place_y * (height - tall + 1)).floor()
    left = (place_x * (width - wide + 1)).floor()

    tall = tall * (chosen & fits.any(1))  # a rectangle without height erases nothing
    top, tall, left, wide = upload(torch.stack([top, tall, left, wide]), images.device)  # (B,) each
    rows = _inside(top, tall, height).unsqueeze(2)  # (B, H, 1)
    columns = _inside(left, wide, width).unsqueeze(1)  # (B, 1, W)
    mask = (rows & columns).unsqueeze(1)  # (B, 1, H, W)
    if one_channel:
        channel = torch.randint(3, (count, 1, 1, 1), generator=generator)
        mask = mask & upload(channel == torch.arange(3).view(3, 1, 1), images.device)
    return torch.where(mask, _color(value, images.device), images)


def _ratios(count: int, uniform: bool, generator: Generator) -> Tensor:
    """Draw aspect ratios (B, 10): height over width."""
    ratio = torch.empty(count, RECTANGLES)
    if uniform:
        return ratio.uniform_(0.3, 1 / 0.3, generator=generator)
    low, high = torch.tensor([0.3, 3.3]).log().tolist()
    return ratio.uniform_(low, high, generator=generator).exp()


def _inside(start: Tensor, length: Tensor, size: int) -> Tensor:
    """Return which of `size` places are in each interval: start, length (B,) → (B, size) bool."""
    places = torch.arange(size, device=start.device)
    start, end = start[:, None], (start + length)[:, None]
    return (places >= start) & (places < end)


def _chosen(images: Tensor, chance: float, generator: Generator) -> Tensor:
    """Draw which images to change, each with the given chance: (B, 1, 1, 1) bool."""
    chosen = torch.rand(len(images), generator=generator) < chance
    return upload(chosen.view(-1, 1, 1, 1), images.device)


@cache
def _color(values: tuple[float, float, float], device: torch.device) -> Tensor:
    """Return three channels as (3, 1, 1) float32; the cache saves a GPU an upload at each use."""
    return torch.tensor(values, device=device).view(3, 1, 1)
