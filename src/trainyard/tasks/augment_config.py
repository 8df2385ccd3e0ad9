"""Block `train.augment` of a recipe: how samples are changed anew in every epoch, and which data can be changed so."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from trainyard.data.raw import Kind
from trainyard.params import Count, Fraction, Index, NonNegative, Positive

if TYPE_CHECKING:
    from trainyard.models.spec import InputSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class AugmentConfig:
    """What may happen to a sample of the training split; validation and test see it as it is.

    Every draw is a function of the training's seed, the epoch and the sample. Masks move with their images. Options
    combine: geometry first, as one move, then colours, noise and the square that is cut out.
    """

    shift: Index = 0
    """Images. Most pixels that an image moves up or down, and to a side; whole pixels, each as likely."""
    padding: Literal["reflect", "zeros"] = "reflect"
    """Images. What comes in from outside: the image mirrored, its mask too; or black."""
    crop: tuple[Count, Count] | None = None
    """Images. Height and width in pixels of a part that stands for the image, from anywhere in it."""
    flip: Literal["none", "horizontal", "vertical", "both"] = "none"
    """Images. Mirrored with a chance of one half; both: in either direction for itself."""
    alternate_flip: bool = False
    """Images. A chance decides the first epoch alone; then each one sees the other side, so that two epochs see both (Jordan
    2024, arXiv:2404.00498). With flip: both, four epochs see all four."""
    rotate90: bool = False
    """Images. Turned by 0, 90, 180 or 270 degrees, each as likely; for squares."""
    rotate: Annotated[float, Field(ge=0, le=180)] = 0.0
    """Images. Most degrees that an image turns, either way."""
    scale: tuple[Positive, Positive] = (1.0, 1.0)
    """Images: least and most factor of the size of what is seen. Series: of the targets' standardised values, seen and
    forecast."""
    elastic: NonNegative = 0.0
    """Images. Standard deviation in pixels of the random moves of a coarse grid, smoothly continued between its points
    (Ronneberger 2015, arXiv:1505.04597, section 3.1, has 10 on images of 512 pixels)."""
    elastic_grid: Annotated[int, Field(ge=2, le=16)] = 3
    """Images. Points of that grid along each side."""
    cutout: Index = 0
    """Images. Side in pixels of a square that is painted with the training split's mean (DeVries 2017, arXiv:1708.04552)."""
    brightness: Fraction = 0.0
    """Images. Most that is added to all values or taken away, as a share of the range from black to white."""
    contrast: Fraction = 0.0
    """Images. Most by which the distances from the image's mean grow or shrink, as a share of them."""
    colour: Fraction = 0.0
    """Images of three channels. Most by which saturation grows or shrinks, as a share, and hue turns, of 180 degrees."""
    noise: NonNegative = 0.0
    """Images. Standard deviation of noise on every value, as a share of the range from black to white."""
    token_dropout: Fraction = 0.0
    """Texts. Share of the tokens that are replaced by the unknown token (Dai 2015, arXiv:1511.01432)."""
    jitter: NonNegative = 0.0
    """Series. Standard deviation of noise on every value that is seen, which have 1 themselves."""

    def __post_init__(self) -> None:
        """Refuse what contradicts itself."""
        if self.scale[0] > self.scale[1]:
            raise ValueError(f"scale: from {self.scale[0]:g} to {self.scale[1]:g} is no range; put the smaller factor first")
        if self.alternate_flip and self.flip == "none":
            raise ValueError(
                "alternate_flip: true has nothing to alternate with flip: none; use flip: horizontal, or remove it"
            )
        if self.elastic_grid != 3 and not self.elastic:
            raise ValueError(
                f"elastic_grid: {self.elastic_grid} has no meaning with elastic: 0; set elastic in pixels, or remove it"
            )
        outside = self.shift or self.rotate or self.elastic or self.scale != (1.0, 1.0)
        if self.padding == "zeros" and not outside:
            raise ValueError(
                "padding: zeros has no meaning where nothing comes in from outside; "
                "it goes with shift, rotate, scale or elastic: add one, or remove padding"
            )
        if self.rotate90 and self.crop is not None and self.crop[0] != self.crop[1]:
            raise ValueError(
                f"rotate90: true needs squares, found crop: {list(self.crop)}; use a square crop, or remove rotate90"
            )


IMAGES: tuple[Kind, ...] = ("image_classification", "segmentation")
OTHERS: dict[str, tuple[Kind, ...]] = {
    "scale": (*IMAGES, "forecasting"),
    "token_dropout": ("text_classification",),
    "jitter": ("forecasting",),
}
"""The kinds of data of the options that are not for images alone."""


def used(config: AugmentConfig) -> dict[str, object]:
    """Return the options that are not at their default, by name."""
    values = {field.name: getattr(config, field.name) for field in fields(config)}
    return {field.name: values[field.name] for field in fields(config) if values[field.name] != field.default}


def foreign(config: AugmentConfig, kind: Kind) -> list[tuple[str, str, str]]:
    """Return the options that a kind of data has nothing to do with: key, what was found, what is expected."""
    found = []
    for key, value in used(config).items():
        kinds = OTHERS.get(key, IMAGES)
        if kind not in kinds:
            shown = str(list(value)) if isinstance(value, tuple) else str(value).lower() if value is True else str(value)
            found.append((f"augment.{key}", f"{shown} is for {' or '.join(kinds)}, but the data are for {kind}", "remove it"))
    if config.padding == "zeros" and kind == "segmentation":
        found.append(("augment.padding", "zeros shows pixels of no class, but every pixel of a mask has one", "use reflect"))
    return found


def oversized(config: AugmentConfig, spec: InputSpec) -> list[tuple[str, str, str]]:
    """Return what images are too small, not square or not colourful enough for.

    Args:
        config: of images.
        spec: of the images.

    Returns:
        Key, what was found, what is expected.
    """
    height, width = spec.height, spec.width
    images = f"images of {height} x {width} pixels"
    seen_height, seen_width = config.crop or (height, width)
    found = []
    if seen_height > height or seen_width > width:
        found.append(("crop", f"{list(config.crop or ())} is cut from {images}", f"use at most [{height}, {width}]"))
    if config.shift >= min(height, width):
        expected = f"use at most {min(height, width) - 1}"
        found.append(("shift", f"{config.shift} pixels moves {images} out of sight", expected))
    if config.rotate90 and seen_height != seen_width:
        found.append(("rotate90", f"true turns squares, the data are {images}", "use a square crop, or remove it"))
    if config.cutout >= min(seen_height, seen_width):
        expected = f"use less than {min(seen_height, seen_width)}"
        found.append(("cutout", f"{config.cutout} leaves nothing of {seen_height} x {seen_width} pixels", expected))
    if config.colour and spec.channels != 3:
        found.append(("colour", f"{config.colour:g} needs 3 channels, the data have {spec.channels}", "use brightness"))
    return [(f"augment.{key}", wrong, expected) for key, wrong, expected in found]
