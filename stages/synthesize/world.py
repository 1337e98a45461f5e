"""How hard the synthetic data sets are, and what tells them apart: all knobs in one place."""

from dataclasses import dataclass


@dataclass(frozen=True)
class World:
    """Knobs that every data set shares.

    luminance_share  share of a garment's near-infrared reflectance that follows its visible
                     luminance; the rest is a draw of its own, so a dark coat may well be bright in
                     the infrared. 0: brightness is of no use across modalities; 1: infrared is a
                     grayscale copy
    camera_strength  how far cameras differ in gain, color cast, gamma and tilt. 0: all alike
    image_strength   how far light and exposure differ between images of one camera
    noise            standard deviation of the sensor's noise, of full scale 1, in a visible camera
    infrared_noise   the same in an infrared camera
    occluder_chance  chance of a foreground object in an image
    pose             how far gait, facing and framing vary between images of a person
    proportions      how far bodies differ. 0: all alike
    pattern_contrast smallest difference of reflectance between a pattern's two tones, in both
                     modalities
    upper_cuts, lower_cuts, upper_patterns, lower_patterns, bags: what there is to wear and carry;
                     a name that is given twice is drawn twice as often
    """

    luminance_share: float = 0.35
    camera_strength: float = 1.0
    image_strength: float = 1.0
    noise: float = 0.02
    infrared_noise: float = 0.03
    occluder_chance: float = 0.12
    pose: float = 1.0
    proportions: float = 1.0
    pattern_contrast: float = 0.28
    upper_cuts: tuple[str, ...] = ("tshirt", "vest", "longsleeve", "jacket", "coat", "dress")
    lower_cuts: tuple[str, ...] = ("trousers", "trousers", "wide", "shorts", "skirt", "longskirt")
    upper_patterns: tuple[str, ...] = (
        *("plain",) * 4, "hstripes", "vstripes", "checks", "block", "logo", "dots",
    )  # fmt: skip
    lower_patterns: tuple[str, ...] = (*("plain",) * 6, "vstripes", "checks", "block")
    bags: tuple[str, ...] = ("none", "none", "backpack", "shoulder", "hand")


WORLD = World()


@dataclass(frozen=True)
class Style:
    """What one data set's people and cameras have in common.

    It makes the data sets differ from each other as the real ones do.

    chroma    mean saturation of clothes, 0 to 1
    hue       center of the clothes' hues, 0 to 1, towards which `hue_pull` of them lean
    dark      above 1: darker clothes, below 1: lighter ones (the exponent of the luminance draw)
    warm      share of summer clothes: without sleeves or with short ones, shorts
    gain      mean exposure
    cast      mean gains of red, green and blue
    haze      mean veil of light
    blur      mean, in pixels of an image of height 96
    vegetation: share of scenes with trees and grass (bright in the infrared)
    """

    chroma: float
    hue: float
    hue_pull: float
    dark: float
    warm: float
    gain: float
    cast: tuple[float, float, float]
    haze: float
    blur: float
    vegetation: float


STYLES = {
    "sysu_mm01": Style(0.42, 0.60, 0.0, 1.4, 0.45, 1.00, (1.00, 1.00, 1.00), 0.04, 0.45, 0.25),
    "regdb": Style(0.38, 0.10, 0.2, 1.4, 0.30, 1.00, (0.97, 1.00, 1.05), 0.06, 0.60, 0.40),
    "llcm": Style(0.38, 0.60, 0.2, 1.6, 0.20, 0.72, (1.06, 1.00, 0.90), 0.02, 0.50, 0.20),
    "market1501": Style(0.50, 0.95, 0.3, 1.0, 0.75, 1.12, (1.08, 1.00, 0.90), 0.03, 0.50, 0.60),
    "dukemtmc": Style(0.25, 0.62, 0.4, 2.0, 0.15, 0.82, (0.92, 0.98, 1.12), 0.10, 0.30, 0.35),
    "msmt17": Style(0.38, 0.30, 0.2, 1.5, 0.40, 0.95, (0.96, 1.06, 0.94), 0.02, 0.70, 0.30),
}
