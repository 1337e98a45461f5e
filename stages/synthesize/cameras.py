"""Cameras: light, optics and sensor, visible or near-infrared."""

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from PIL import Image, ImageFilter

from stages.synthesize.world import Style, World


@dataclass(frozen=True)
class Camera:
    """What a camera does to every image.

    gain        exposure
    cast        gains of red, green and blue
    gamma       exponent of the tone curve
    haze        strength of the veil of light
    saturation  factor of the colors
    blur        in pixels of an image of height 96
    noise       standard deviation, of full scale 1
    tilt        see `figure.Pose`
    falloff     brightness of the scene relative to the person's (below 1: lamps at the camera)
    vignette    how much darker the corners are
    quality     quality of the JPEG
    """

    infrared: bool
    gain: float
    cast: tuple[float, float, float]
    gamma: float
    haze: float
    saturation: float
    blur: float
    noise: float
    tilt: float
    falloff: float
    vignette: float
    quality: int


def draw_camera(random: Generator, infrared: bool, style: Style, world: World) -> Camera:
    """Draw a camera of a data set with `style`."""

    def vary(deviation: float) -> float:
        spread = float(np.clip(random.normal(), -2.0, 2.0))
        return world.camera_strength * deviation * spread

    red, green, blue = (gain * (1.0 + vary(0.07)) for gain in style.cast)
    return Camera(
        infrared=infrared,
        gain=(1.05 if infrared else style.gain) * (1.0 + vary(0.12)),
        cast=(red, green, blue),
        gamma=float(np.exp(vary(0.12))),
        haze=max(0.0, style.haze + vary(0.02)),
        saturation=1.0 + vary(0.12),
        blur=max(0.0, style.blur + vary(0.15) + (0.2 if infrared else 0.0)),
        noise=world.infrared_noise if infrared else world.noise,
        tilt=vary(0.012),
        falloff=0.55 + vary(0.08) if infrared else 1.0,
        vignette=0.45 + vary(0.1) if infrared else 0.08,
        quality=int(np.clip(86 + vary(5), 70, 95)),
    )


def expose(image: np.ndarray, camera: Camera, random: Generator, world: World) -> np.ndarray:
    """Return what the sensor records of the reflectances `image` (H, W, C), as (H, W, 3) uint8.

    C is 3 in the visible and 1 in the infrared, whose three channels come out equal. `random`
    draws exposure, light, blur and noise of this image.
    """
    height, width, channels = image.shape
    image = image * _light(height, width, camera, random, world)[:, :, None]
    if not camera.infrared:
        gray = image.mean(axis=2, keepdims=True)
        saturated = gray + camera.saturation * (image - gray)
        image = saturated * np.array(camera.cast, dtype=np.float32)
    image = image * (1.0 - camera.haze) + camera.haze * 0.7
    image = np.clip(image, 0.0, 1.0) ** camera.gamma
    if camera.infrared:
        image = np.repeat(image, 3, axis=2)  # (H, W, 1) → (H, W, 3)
    picture = Image.fromarray((image * 255.0 + 0.5).astype(np.uint8))
    blur = camera.blur * height / 96.0 * float(random.uniform(0.6, 1.4))
    blurred = np.asarray(picture.filter(ImageFilter.GaussianBlur(blur)), dtype=np.float32)
    noise = random.standard_normal((height, width, channels), dtype=np.float32)
    noisy = blurred + noise * (camera.noise * 255.0)
    return np.clip(noisy + 0.5, 0, 255).astype(np.uint8)


def _light(height: int, width: int, camera: Camera, random: Generator, world: World) -> np.ndarray:
    """Return the light of one image, (H, W) float32: exposure, a slope, and dark corners."""
    strength = world.image_strength
    gain = camera.gain * (1.0 + strength * float(random.uniform(-0.12, 0.12)))
    slope_y, slope_x = strength * random.uniform(-0.15, 0.15, 2)
    y = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    x = np.linspace(-1, 1, width, dtype=np.float32)[None, :]
    sloped = gain * (1.0 + slope_y * y + slope_x * x)
    corners = 1.0 - camera.vignette * (0.5 * y * y + 0.5 * x * x)
    light: np.ndarray = (sloped * corners).astype(np.float32)
    return light
