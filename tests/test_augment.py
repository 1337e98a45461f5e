"""Augmentation: what may change, with which chance, and torchvision's and Pillow's results."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import RandomErasing

from stages.parts.images import augment
from stages.parts.images.augment import (
    DEVIATION,
    MEAN,
    brightness,
    erase,
    exchange,
    flip,
    grayscale,
    mixture,
    normalize,
    pad_and_crop,
    resize,
)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pictures(count: int = 8, height: int = 12, width: int = 6, seed: int = 0) -> Tensor:
    """uint8 (count, 3, height, width), no value 0."""
    return torch.randint(
        1, 256, (count, 3, height, width), generator=generator(seed), dtype=torch.uint8
    )


RANDOM = {
    "flip": lambda x, g: flip(x, 0.5, g),
    "grayscale": lambda x, g: grayscale(x, 0.5, g),
    "mixture": lambda x, g: mixture(x, 0.5, g, (0.5, 1.7)),
    "exchange": lambda x, g: exchange(x, 0.5, g),
    "pad_and_crop": lambda x, g: pad_and_crop(x, 2, g),
    "erase": lambda x, g: erase(x, 0.5, g),
}


@pytest.mark.parametrize("name", RANDOM)
def test_a_generator_gives_its_pictures_and_another_others(name):
    x = pictures(32).float()
    before, state = x.clone(), torch.get_rng_state()
    first, same, other = (RANDOM[name](x, generator(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, same)
    assert not torch.equal(first, other)
    assert first.shape == x.shape
    assert first.dtype == torch.float32
    assert torch.equal(x, before), "the input must stay as it is"
    assert torch.equal(torch.get_rng_state(), state), "no global randomness"


LAYOUTS = RANDOM | {
    "normalize": lambda x, g: normalize(x),
    "erase_channel": lambda x, g: erase(x, 0.5, g, one_channel=True),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_the_layout_in_memory_changes_no_bit(name):
    """Channel by channel, which the stages use because it is faster, or channels last."""
    for height, width in ((12, 6), (96, 48)):
        x = pictures(32, height, width).float()
        expected = LAYOUTS[name](x.contiguous(memory_format=torch.channels_last), generator(1))
        assert torch.equal(LAYOUTS[name](x, generator(1)), expected)


@pytest.mark.parametrize("name", ["flip", "grayscale", "mixture", "exchange", "erase"])
def test_chance_0_changes_nothing_and_chance_1_every_picture(name):
    x = normalize(pictures(32))
    call = getattr(augment, name)
    assert torch.equal(call(x, 0.0, generator()), x)
    assert (call(x, 1.0, generator()) != x).flatten(1).any(1).all()


@pytest.mark.parametrize("name", ["flip", "grayscale", "mixture", "exchange", "erase"])
def test_the_chance_is_the_share_of_pictures(name):
    """2000 draws at 0.3: three standard deviations are 0.03."""
    x = normalize(pictures(2000, 4, 4))
    if name == "erase":
        x = normalize(pictures(2000, 20, 20))
    changed = (getattr(augment, name)(x, 0.3, generator()) != x).flatten(1).any(1)
    assert float(changed.float().mean()) == pytest.approx(0.3, abs=0.035)


def test_normalize_is_mean_and_deviation_of_each_channel():
    x = pictures()
    mean, deviation = (np.array(values).reshape(3, 1, 1) for values in (MEAN, DEVIATION))
    expected = (x.numpy() / 255 - mean) / deviation
    assert normalize(x).dtype == torch.float32
    np.testing.assert_allclose(normalize(x), expected, atol=1e-6)
    assert torch.equal(normalize(x), normalize(x.float()))


def test_flip_mirrors_left_and_right():
    x = pictures().float()
    once = flip(x, 1.0, generator())
    assert torch.equal(once[..., 0], x[..., -1])
    assert torch.equal(once[:, :, 0], x.flip(3)[:, :, 0])
    assert torch.equal(flip(once, 1.0, generator()), x)


def test_grayscale_is_pillow_s_luma_in_three_channels():
    x = pictures()
    gray = grayscale(x.float(), 1.0, generator())
    assert torch.equal(gray[:, 0], gray[:, 1])
    assert torch.equal(gray[:, 0], gray[:, 2])
    for image, found in zip(x, gray[:, 0], strict=True):
        luma = Image.fromarray(image.permute(1, 2, 0).numpy()).convert("L")
        np.testing.assert_allclose(found, np.asarray(luma, dtype=float), atol=1)  # Pillow rounds
    np.testing.assert_allclose(grayscale(gray, 1.0, generator()), gray, rtol=1e-5)


def test_mixture_is_gray_and_within_the_channels():
    x = pictures(50).float()
    mixed = mixture(x, 1.0, generator())
    assert torch.equal(mixed[:, 0], mixed[:, 1])
    assert torch.equal(mixed[:, 0], mixed[:, 2])
    assert (mixed <= x.amax(1, keepdim=True) + 1e-3).all()
    assert (mixed >= x.amin(1, keepdim=True) - 1e-3).all()


def test_mixture_has_one_set_of_weights_for_a_picture():
    x = pictures(4).float()
    mixed = mixture(x, 1.0, generator())
    for image, gray in zip(x, mixed[:, 0], strict=True):
        channels = image.flatten(1).T  # (H · W, 3)
        weights = torch.linalg.lstsq(channels, gray.flatten()[:, None]).solution.squeeze(1)
        assert float(weights.sum()) == pytest.approx(1, abs=1e-3)
        assert (weights > -1e-3).all()


def test_gamma_is_an_exponent_within_its_limits():
    """A picture of one gray value shows the exponent; 500 draws fill the range evenly."""
    x = torch.full((500, 3, 4, 4), 100.0)
    mixed = mixture(x, 1.0, generator(), (0.5, 1.7))[:, 0, 0, 0]
    exponents = (mixed / 255).log() / np.log(100 / 255)
    assert 0.5 <= float(exponents.min()) < 0.55
    assert 1.65 < float(exponents.max()) <= 1.7 + 1e-4
    assert float(exponents.mean()) == pytest.approx(1.1, abs=0.05)


def test_each_picture_has_a_brightness_of_its_own_within_the_limits():
    x = torch.full((500, 3, 4, 4), 100.0)
    changed = brightness(x, (0.5, 1.7), generator())
    assert (changed == changed[:, :1, :1, :1]).all()
    exponents = (changed[:, 0, 0, 0] / 255).log() / np.log(100 / 255)
    assert 0.5 - 1e-4 <= float(exponents.min()) < 0.55
    assert 1.65 < float(exponents.max()) <= 1.7 + 1e-4
    assert float(exponents.mean()) == pytest.approx(1.1, abs=0.05)
    half = brightness(x, (0.5, 1.0), generator())
    assert (half >= 100 - 1e-3).all()  # one limit is 1 and yet it draws


def test_brightness_keeps_black_and_white_and_the_order_between():
    x = pictures(40).float()
    x[:, :, 0, 0], x[:, :, 0, 1] = 0.0, 255.0
    changed = brightness(x, (0.5, 1.7), generator())
    assert (changed[:, :, 0, 0] == 0).all()
    torch.testing.assert_close(changed[:, :, 0, 1], x[:, :, 0, 1])
    for before, after in zip(x.flatten(1), changed.flatten(1), strict=True):
        assert (after[before.argsort()].diff() >= -1e-3).all()
    draws = generator()
    assert brightness(x, (1.0, 1.0), draws) is x


def test_one_channel_is_erased():
    x = normalize(pictures(50, 40, 20))
    changed = erase(x, 1.0, generator(), one_channel=True) != x  # (B, 3, H, W)
    assert changed.any(-1).any(-1).sum(1).tolist() == [1] * 50
    assert set(changed.any(-1).any(-1).int().argmax(1).tolist()) == {0, 1, 2}


def test_exchange_shows_one_channel_three_times():
    x = pictures(60).float()
    shown = exchange(x, 1.0, generator())
    channels = set()
    for image, found in zip(x, shown, strict=True):
        (channel,) = [c for c in range(3) if torch.equal(found[0], image[c])]
        assert torch.equal(found, image[channel].expand_as(found))
        channels.add(channel)
    assert channels == {0, 1, 2}


@pytest.mark.parametrize("function", [mixture, exchange])
def test_what_is_off_draws_nothing(function):
    draws = generator()
    before = draws.get_state()
    x = pictures().float()
    assert function(x, 0.0, draws) is x
    assert torch.equal(draws.get_state(), before)


def test_pad_and_crop_is_a_shift_with_0_coming_in():
    x = pictures(60).float()
    shifted = pad_and_crop(x, 2, generator())
    padded = torch.nn.functional.pad(x, (2, 2, 2, 2))
    offsets = set()
    for image, big in zip(shifted, padded, strict=True):
        fits = [
            (r, c)
            for r in range(5)
            for c in range(5)
            if torch.equal(image, big[:, r : r + 12, c : c + 6])
        ]
        assert len(fits) == 1
        offsets |= set(fits)
    assert {r for r, _ in offsets} == {c for _, c in offsets} == set(range(5))
    assert pad_and_crop(x, 0, generator()) is x


def erased(count: int, height: int = 40, width: int = 20, **how: object) -> tuple[Tensor, Tensor]:
    """The pictures after erasing at chance 1, and the mask (count, height, width) of the erased."""
    x = torch.full((count, 3, height, width), 7.0)
    after = erase(x, 1.0, generator(), **how)
    return after, (after != 7).any(1)


@pytest.mark.parametrize(
    "how", [{}, {"area": (0.02, 0.4), "uniform_ratio": True, "value": MEAN}], ids=["otla", "spcl"]
)
def test_erase_overwrites_one_rectangle_smaller_than_the_picture(how):
    after, mask = erased(300, **how)
    value = torch.tensor(how.get("value", (0.0, 0.0, 0.0))).view(3, 1)
    low, high = how.get("area", (0.02, 0.33))
    for image, hole in zip(after, mask, strict=True):
        rows, columns = hole.any(1), hole.any(0)
        tall, wide = int(rows.sum()), int(columns.sum())
        assert int(hole.sum()) == tall * wide > 0
        assert torch.equal(hole, rows[:, None] & columns[None, :])
        assert (rows.int().diff() != 0).sum() <= 2, "rows side by side"
        assert (columns.int().diff() != 0).sum() <= 2, "columns side by side"
        assert tall < 40
        assert wide < 20
        assert (image[:, hole] == value).all()
        # Sides are rounded: half a pixel each way.
        assert (tall - 0.5) * (wide - 0.5) <= high * 800
        assert (tall + 0.5) * (wide + 0.5) >= low * 800
        assert (tall - 0.5) / (wide + 0.5) <= 10 / 3
        assert (tall + 0.5) / (wide - 0.5) >= 0.3
    assert mask.any(0).all(), "every pixel can be hit"


def test_erase_is_torchvision_s_in_distribution():
    """Height, width and place of 3000 rectangles: means agree within four standard errors."""
    _, mask = erased(3000)
    torchvision = RandomErasing(p=1.0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        theirs = torch.stack(
            [torchvision(torch.full((3, 40, 20), 7.0))[0] != 7 for _ in range(3000)]
        )

    def sizes(holes: Tensor) -> Tensor:
        rows, columns = holes.any(2), holes.any(1)
        figures = (rows.sum(1), columns.sum(1), rows.int().argmax(1), columns.int().argmax(1))
        return torch.stack(figures, 1).double()

    ours, reference = sizes(mask), sizes(theirs)
    error = ((ours.var(0) + reference.var(0)) / 3000).sqrt()
    assert ((ours.mean(0) - reference.mean(0)).abs() < 4 * error).all()


def test_ratios_are_log_uniform_or_uniform():
    """Which share is taller than wide.

    Log-uniform in 0.3 … 3.3 is symmetric about 1: half of them. Uniform in 0.3 … 3.33: 77 %.
    """
    for uniform, share in ((False, 0.5), (True, (1 / 0.3 - 1) / (1 / 0.3 - 0.3))):
        _, mask = erased(2000, 50, 50, uniform_ratio=uniform)
        tall, wide = mask.any(2).sum(1), mask.any(1).sum(1)
        taller = float((tall > wide).float().mean() + (tall == wide).float().mean() / 2)
        assert taller == pytest.approx(share, abs=0.045)


def test_where_no_rectangle_fits_nothing_is_erased():
    x = torch.ones(50, 3, 1, 1)
    assert torch.equal(erase(x, 1.0, generator()), x)


def test_resize_is_bicubic_with_antialiasing():
    """Against Pillow, which rounds; and a picture of the size already is handed back as it is."""
    x = pictures(4, 40, 24).float()
    assert resize(x, 40, 24) is x
    small = resize(x, 20, 12)
    assert small.shape == (4, 3, 20, 12)
    for image, found in zip(x, small, strict=True):
        picture = Image.fromarray(image.byte().permute(1, 2, 0).numpy())
        wanted = np.asarray(picture.resize((12, 20), Image.Resampling.BICUBIC), dtype=float)
        np.testing.assert_allclose(found.permute(1, 2, 0).clamp(0, 255), wanted, atol=2)
    even = torch.full((1, 3, 7, 5), 3.0)
    np.testing.assert_allclose(resize(even, 14, 9), 3.0, atol=1e-5)


def test_resize_is_clipped_to_what_bytes_can_hold():
    """At an edge from black to white the interpolation overshoots on both sides."""
    edge = torch.zeros(1, 3, 8, 8)
    edge[..., 4:] = 255
    larger = resize(edge, 16, 16)
    assert float(larger.min()) == 0
    assert float(larger.max()) == 255
    kept = resize(edge / 255 * 100 + 50, 16, 16)  # within the limits it may overshoot
    assert float(kept.min()) < 50
    assert float(kept.max()) > 150


def test_a_draw_leaves_the_next_ones_where_they_were():
    """Each step draws as much at every chance: without one, the others' pictures are the same."""
    x = normalize(pictures(16, 20, 20))
    for name in ("flip", "grayscale", "erase"):
        after = []
        for chance in (0.0, 0.5, 1.0):
            random = generator()
            getattr(augment, name)(x, chance, random)
            after.append(float(torch.rand(1, generator=random)))
        assert len(set(after)) == 1
