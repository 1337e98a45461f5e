"""Cameras: light, optics and sensor, visible or near-infrared."""

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageFilter

from stages.synthesize.world import Style, World


@dataclass(frozen=True)
class Camera:
    """What a camera does to every image.

    gain: exposure; cast: gains of red, green and blue; gamma; haze: veil of light; saturation; blur: in pixels of a
    picture 96 high; noise: standard deviation; tilt: see `figure.Pose`; falloff: how much darker the scene behind is
    than the person (lamps at the camera); vignette: how much darker the corners; quality: of JPEG.
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


def draw_camera(random: np.random.Generator, infrared: bool, style: Style, world: World) -> Camera:
    """A camera of a data set with `style`."""
    strength = world.camera_strength

    def vary(deviation: float) -> float:
        return strength * deviation * float(np.clip(random.normal(), -2.0, 2.0))

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


def expose(
    image: np.ndarray, camera: Camera, random: np.random.Generator, world: World
) -> np.ndarray:
    """What the sensor records of reflectances `image` (H, W, C): uint8 (H, W, 3).

    C = 3 in the visible; C = 1 in the infrared, whose three channels come out equal.
    """
    height, width, _ = image.shape
    strength = world.image_strength
    gain = camera.gain * (1.0 + strength * float(random.uniform(-0.12, 0.12)))
    slope = strength * random.uniform(-0.15, 0.15, 2)
    y, x = (
        np.linspace(-1, 1, height, dtype=np.float32)[:, None],
        np.linspace(-1, 1, width, dtype=np.float32)[None, :],
    )
    light = (
        gain
        * (1.0 + slope[0] * y + slope[1] * x)
        * (1.0 - camera.vignette * (0.5 * y * y + 0.5 * x * x))
    )
    image = image * light[:, :, None].astype(np.float32)
    if not camera.infrared:
        gray = image.mean(axis=2, keepdims=True)
        image = (gray + camera.saturation * (image - gray)) * np.array(
            camera.cast, dtype=np.float32
        )
    image = image * (1.0 - camera.haze) + camera.haze * 0.7
    image = np.clip(image, 0.0, 1.0) ** camera.gamma
    levels = np.repeat(image, 3, axis=2) if camera.infrared else image
    picture = Image.fromarray((levels * 255.0 + 0.5).astype(np.uint8))
    blur = camera.blur * height / 96.0 * float(random.uniform(0.6, 1.4))
    blurred = np.asarray(picture.filter(ImageFilter.GaussianBlur(blur)), dtype=np.float32)
    noise = random.standard_normal((height, width, 1 if camera.infrared else 3), dtype=np.float32)
    return np.clip(blurred + noise * (camera.noise * 255.0) + 0.5, 0, 255).astype(np.uint8)
