"""Augmentation as functions of a batch that is on the device already.

Chances are drawn on the CPU from the generator that is given, so a run on a GPU sees the same pictures.
"""

import torch
from torch import Tensor
from torch.nn import functional

MEAN = (0.485, 0.456, 0.406)
DEVIATION = (0.229, 0.224, 0.225)


def normalize(images: Tensor) -> Tensor:
    """uint8 (B, 3, H, W) → float32, by the mean and deviation of ImageNet."""
    mean = images.new_tensor(MEAN, dtype=torch.float32).view(3, 1, 1)
    deviation = images.new_tensor(DEVIATION, dtype=torch.float32).view(3, 1, 1)
    return (images.float() / 255 - mean) / deviation


def resize(images: Tensor, height: int, width: int) -> Tensor:
    """float (B, 3, H, W), 0 to 255 → (B, 3, height, width), bicubic with antialiasing; unchanged where it fits already.

    Bicubic overshoots at edges; what leaves 0 to 255 is clipped, as in a picture of bytes.
    """
    if images.shape[2:] == (height, width):
        return images
    return functional.interpolate(images, (height, width), mode="bicubic", antialias=True).clamp(
        0, 255
    )


def flip(images: Tensor, chance: float, generator: torch.Generator) -> Tensor:
    """Mirror each image with the given chance."""
    return torch.where(_draw(images, chance, generator), images.flip(3), images)


def grayscale(images: Tensor, chance: float, generator: torch.Generator) -> Tensor:
    """Replace the three channels of float images by luma (ITU-R 601-2) with the given chance."""
    luma = images.new_tensor((0.299, 0.587, 0.114)).view(3, 1, 1)
    gray = (images * luma).sum(1, keepdim=True).expand_as(images)
    return torch.where(_draw(images, chance, generator), gray, images)


def pad_and_crop(images: Tensor, pad: int, generator: torch.Generator) -> Tensor:
    """Shift each image by up to `pad` pixels each way; what comes in is 0.

    The same as padding with 0 on every side and cropping the former size at random.
    """
    if pad == 0:
        return images
    count, _, height, width = images.shape
    padded = functional.pad(images, (pad, pad, pad, pad))
    offsets = torch.randint(2 * pad + 1, (2, count), generator=generator).to(images.device)
    rows = offsets[0].view(-1, 1, 1) + torch.arange(height, device=images.device).view(1, -1, 1)
    columns = offsets[1].view(-1, 1, 1) + torch.arange(width, device=images.device).view(1, 1, -1)
    picked = padded.permute(0, 2, 3, 1)[
        torch.arange(count, device=images.device).view(-1, 1, 1), rows, columns
    ]
    return picked.permute(0, 3, 1, 2)  # (B, 3, H, W), channels last in memory


def erase(
    images: Tensor,
    chance: float,
    generator: torch.Generator,
    area: tuple[float, float] = (0.02, 0.33),
    uniform_ratio: bool = False,
    value: tuple[float, float, float] = (0.0, 0.0, 0.0),
) -> Tensor:
    """Overwrite one rectangle of each image with the given chance; after normalization.

    The defaults are torchvision's (OTLA): share of the area uniform in `area`, aspect ratio log-uniform in 0.3 … 3.3,
    value 0. SpCL's are `area=(0.02, 0.4)`, `uniform_ratio=True`, `value=MEAN`: the ratio uniform in 0.3 … 1 / 0.3,
    and the *mean in normalized space* as the color. Of ten rectangles drawn the first that fits is taken.
    """
    count, _, height, width = images.shape
    share = torch.empty(count, 10).uniform_(*area, generator=generator)
    if uniform_ratio:
        ratio = torch.empty(count, 10).uniform_(0.3, 1 / 0.3, generator=generator)
    else:
        low, high = torch.tensor([0.3, 3.3]).log().tolist()
        ratio = torch.empty(count, 10).uniform_(low, high, generator=generator).exp()
    tall = (share * ratio * height * width).sqrt().round()
    wide = (share / ratio * height * width).sqrt().round()
    place = torch.rand(2, count, generator=generator)
    chosen = torch.rand(count, generator=generator) < chance
    fits = (tall < height) & (wide < width)
    first = fits.int().argmax(1, keepdim=True)
    tall, wide = tall.gather(1, first).squeeze(1), wide.gather(1, first).squeeze(1)
    top = (place[0] * (height - tall + 1)).floor()
    left = (place[1] * (width - wide + 1)).floor()
    y = torch.arange(height).view(1, -1, 1)
    x = torch.arange(width).view(1, 1, -1)
    inside = (y >= top.view(-1, 1, 1)) & (y < (top + tall).view(-1, 1, 1))
    inside = inside & (x >= left.view(-1, 1, 1)) & (x < (left + wide).view(-1, 1, 1))
    inside &= (chosen & fits.any(1)).view(-1, 1, 1)
    mask = inside.unsqueeze(1).to(images.device)
    return torch.where(mask, images.new_tensor(value).view(3, 1, 1), images)


def _draw(images: Tensor, chance: float, generator: torch.Generator) -> Tensor:
    return (
        (torch.rand(len(images), generator=generator) < chance).view(-1, 1, 1, 1).to(images.device)
    )
