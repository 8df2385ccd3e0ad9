"""How a user's file becomes a sample of a recipe: what must travel with a model for it to be asked as it was trained.

images    their size and channels, and how they are resized; data.image_files has the rules for all else
texts     the columns that are joined, and what is taken out of them before they become tokens
series    the columns and their decimal sign, and what is done about missing numbers
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from trainyard.data.packed import Card
    from trainyard.data.sources import DataConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageForm:
    """How an image file becomes pixels."""

    channels: Literal[1, 3]
    size: tuple[int, int] | None
    """Height and width in pixels; None: as the image is, which only networks for masks take."""
    trained_size: tuple[int, int]
    """Height and width of the images that it was trained on."""
    resize: Literal["stretch", "crop", "pad"] = "stretch"


@dataclass(frozen=True, slots=True, kw_only=True)
class TextForm:
    """How columns of a table become a text."""

    columns: tuple[str, ...] = ("text",)
    without_names: tuple[str, ...] = ()
    """Names of libraries, which data.docstrings takes out of a text together with code; none: the text stays as it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesForm:
    """How rows of a table become a series."""

    time: str
    """Column of the times."""
    series: str | None = None
    """Column that says to which of several series a row belongs."""
    decimal: Literal[".", ","] = "."
    missing: Literal["refuse", "interpolate"] = "refuse"
    step: int = 0
    """Microseconds from one row to the next; 0 where that is not known, or months."""


RawForm = ImageForm | TextForm | SeriesForm


def form_of(config: DataConfig, card: Card) -> RawForm:
    """Return how the files of a data set were read.

    Args:
        config: the `data` block that they were prepared with.
        card: what came out.
    """
    plain: Any = config
    match card.kind:
        case "text_classification":
            columns = getattr(plain, "texts", TextForm().columns)
            return TextForm(columns=columns, without_names=getattr(plain, "libraries", ()))
        case "forecasting":
            return SeriesForm(
                time=plain.time, series=plain.series, decimal=plain.decimal, missing=plain.missing, step=card.step
            )
        case "image_classification" | "segmentation":
            trained = (card.input["height"], card.input["width"])
            # Images that no source resized are as large as they are, and a network for masks takes any size.
            resized = card.source == "image_masks" and plain.size is not None
            as_it_is = card.kind == "segmentation" and not resized
            return ImageForm(
                channels=1 if card.input["channels"] == 1 else 3,
                size=None if as_it_is else trained,
                trained_size=trained,
                resize=getattr(plain, "resize", "stretch"),
            )


def table_of(config: DataConfig) -> dict[str, Any] | None:
    """Return how the tables of a data set were written, as `table_form.form_from_json` reads it; None: it had none."""
    form = getattr(config, "table_form", None)
    return None if form is None else form.to_json()


def to_json(form: RawForm) -> dict[str, Any]:
    """Return plain values, of which `from_json` makes an equal form."""
    return {"type": _TYPES[type(form)], **asdict(form)}


def from_json(values: dict[str, Any]) -> RawForm:
    """Return the form that `to_json` wrote.

    Raises:
        ValueError, TypeError, KeyError: it is none.
    """
    plain = {key: tuple(value) if isinstance(value, list) else value for key, value in values.items() if key != "type"}
    found: RawForm = _FORMS[values["type"]](**plain)
    match found:
        case ImageForm():
            sizes = (found.trained_size, *([found.size] if found.size else []))
            good = found.channels in (1, 3) and found.resize in ("stretch", "crop", "pad")
            good = good and all(len(size) == 2 and all(type(side) is int and side > 0 for side in size) for size in sizes)
        case TextForm():
            good = bool(found.columns) and all(isinstance(name, str) for name in (*found.columns, *found.without_names))
        case SeriesForm():
            good = found.decimal in (".", ",") and found.missing in ("refuse", "interpolate") and type(found.step) is int
    if not good:
        raise ValueError(f"{values} says nothing about how {values['type']} inputs are read")
    return found


_FORMS: dict[str, Any] = {"image": ImageForm, "text": TextForm, "series": SeriesForm}
_TYPES = {form: name for name, form in _FORMS.items()}
