"""Whether a model leaves alone what needs no deblurring: do no harm.

Photographs that are already sharp, and drawn pictures on which a fault can be told from the input
alone. ``docs/gates.md`` gives the reason of every bound.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from pydantic import BaseModel, ConfigDict, Field

from deblur.evaluation import Predict, Scores
from deblur.gates import drawn
from deblur.gates.check import Check
from deblur.images import to_float, to_uint8
from deblur.metrics import psnr
from deblur.progress import SILENT, Advance, Progress

#: Standard deviations of the noise, in levels: of a good, a fair and a poor photograph.
NOISE = (5, 10, 20)
INKS = (
    (drawn.BLACK, drawn.WHITE),
    (drawn.WHITE, drawn.BLACK),
    ((70, 70, 70), (190, 190, 190)),
)
#: PSNR that counts for equal pictures, whose own is infinite: a mean has to be a number.
EQUAL = 100.0
#: Pixels at the border of a picture that are judged apart: a network's own padding shows there.
_FRINGE = 16
#: Pixels from an edge beyond which what deviates counts as ringing.
_RINGING_FROM = 6
_NOISY_SIDE = 256
_PANEL = 152
#: A picture that lost less than this many dB is as good as before.
_NOTICED = 0.1


class HarmBounds(BaseModel):
    """What is allowed of a model on pictures that need no deblurring. Levels are those of 8 bit."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sharp_mean: float = Field(
        default=30.0, description="dB at least, sharp photographs against themselves, mean"
    )
    sharp_worst: float = Field(
        default=26.0, description="dB at least, the sharp photograph changed most"
    )
    flat_field: float = Field(
        default=6.0, ge=0, description="levels at most, any pixel of a flat field"
    )
    flat_border: float = Field(
        default=24.0, ge=0, description="levels at most, the same with the outer 16 pixels"
    )
    text: float = Field(default=26.0, description="dB at least, drawn text against itself")
    text_contrast: float = Field(
        default=0.9, ge=0, description="of the contrast of drawn text, at least"
    )
    edge_overshoot: float = Field(
        default=0.25, ge=0, description="of an edge's height, at most beside it"
    )
    edge_ringing: float = Field(
        default=0.08, ge=0, description="of an edge's height, at most, 6 pixels off and more"
    )
    noise_gain: float = Field(
        default=1.5, ge=0, description="times its standard deviation, at most"
    )
    gradient_step: float = Field(
        default=3.0, ge=0, description="levels at most that a step of a gradient changes by"
    )
    worse_share: float = Field(
        default=0.1, ge=0, le=1, description="of the scored pictures at most may lose over 0.1 dB"
    )
    worst_loss: float = Field(
        default=1.0, ge=0, description="dB at most that a scored picture may lose"
    )


def check_harm(
    predict: Predict,
    pictures: Sequence[np.ndarray],
    progress: Progress = SILENT,
    bounds: HarmBounds = HarmBounds(),
) -> tuple[Check, ...]:
    """Give a model what it should leave alone. Results are judged as delivered, in 8 bit.

    Args:
        predict: the model with its tiling, whole pictures in and out.
        pictures: sharp photographs, ``[H, W, 3]`` uint8. Without any, what needs one is left out.
        progress: shows the pictures done.
        bounds: what is allowed.

    Returns:
        ``sharp_mean`` and ``sharp_worst`` (given pictures), ``flat_field``, ``flat_border``,
        ``text``, ``text_contrast``, ``edge_overshoot``, ``edge_ringing``, ``noise_gain``,
        ``gradient_step`` and ``extremes``.
    """
    noisy = [drawn.flat(_NOISY_SIDE, _NOISY_SIDE, drawn.MID_GREY), *map(_middle, pictures[:1])]
    singles = drawn.extremes()
    grainy = len(noisy) * (1 + len(NOISE))
    total = len(pictures) + len(drawn.FIELDS) + len(INKS) + 1 + grainy + 2 + len(singles)
    with progress.task("do no harm", total, "pictures") as advance:
        look = _Look(predict, advance)
        checks = [
            *_sharp(look, pictures, bounds),
            *_fields(look, bounds),
            *_text(look, bounds),
            *_edges(look, bounds),
            _noise(look, noisy, bounds),
            _gradient(look, bounds),
            _extremes(look, singles),
        ]
    return tuple(checks)


def harm_of_scores(scores: Scores, bounds: HarmBounds = HarmBounds()) -> tuple[Check, ...]:
    """What deblurring cost the pictures that it should have helped: ``worse_share`` of them, and
    the ``worst_loss`` on one."""
    before = np.array([picture.blurred.psnr for picture in scores.pictures])
    after = np.array([picture.result.psnr for picture in scores.pictures])
    # Both may be infinite, for a picture that was not blurred.
    losses = np.minimum(EQUAL, before) - np.minimum(EQUAL, after)
    worse = float(np.mean(losses > _NOTICED)) if len(losses) else float("nan")
    worst = float(np.maximum(0.0, losses).max()) if len(losses) else float("nan")
    return (
        Check(
            "worse_share", worse, "at most", bounds.worse_share, "",
            f"Share of {len(losses)} scored pictures that lost over {_NOTICED} dB",
        ),
        Check(
            "worst_loss", worst, "at most", bounds.worst_loss, "dB",
            f"Largest loss of PSNR, {len(losses)} scored pictures",
        ),
    )  # fmt: skip


def harm_sheet(predict: Predict) -> Image.Image:
    """Drawn pictures above what the model makes of them: text, edges, noise, a flat field and a
    gradient, with the PSNR between the two."""
    grey = drawn.flat(_PANEL, _PANEL, drawn.MID_GREY)
    inputs = {
        "text": drawn.text()[:_PANEL, : 2 * _PANEL],
        "white on black": drawn.text(drawn.WHITE, drawn.BLACK)[:_PANEL, : 2 * _PANEL],
        "edges": drawn.edges(_PANEL),
        f"noise, sigma {NOISE[-1]}": drawn.noisy(grey, NOISE[-1]),
        "flat field": drawn.flat(_PANEL, _PANEL, drawn.FIELDS[-1]),
        "gradient": drawn.gradient(_PANEL)[:, ::2],
    }
    font, gap, head = ImageFont.load_default(14), 8, 22
    width = gap + sum(picture.shape[1] + gap for picture in inputs.values())
    sheet = Image.new("RGB", (width, gap + 2 * (head + _PANEL + gap)), (250, 250, 248))
    pen = ImageDraw.Draw(sheet)
    left = gap
    for name, picture in inputs.items():
        result = to_uint8(_finite(predict(to_float(picture))))
        kept = f"{min(EQUAL, psnr(result, picture)):.1f} dB"
        for row, (title, pixels) in enumerate(((name, picture), (kept, result))):
            top = gap + row * (head + _PANEL + gap)
            pen.text((left, top), title, fill=(40, 40, 44), font=font)
            sheet.paste(Image.fromarray(pixels), (left, top + head))
        left += picture.shape[1] + gap
    return sheet


class _Look:
    """Runs a model on pictures, one after the other."""

    def __init__(self, predict: Predict, advance: Advance) -> None:
        self.predict = predict
        self.advance = advance

    def planes(self, picture: np.ndarray) -> np.ndarray:
        """``[1, 3, H, W]`` as the model returned it."""
        planes = self.predict(to_float(picture))
        self.advance(1)
        return planes

    def delivered(self, picture: np.ndarray) -> np.ndarray:
        """``[H, W, 3]`` uint8."""
        return to_uint8(_finite(self.planes(picture)))

    def levels(self, picture: np.ndarray) -> np.ndarray:
        """The same as float64, so that differences do not wrap; NaN where it was not finite."""
        planes = self.planes(picture)
        broken = ~np.isfinite(planes[0].transpose(1, 2, 0))
        return np.where(broken, np.nan, to_uint8(_finite(planes)).astype(np.float64))


def _sharp(look: _Look, sharp: Sequence[np.ndarray], bounds: HarmBounds) -> Iterator[Check]:
    if not sharp:
        return
    kept = [min(EQUAL, psnr(look.delivered(picture), picture)) for picture in sharp]
    yield Check(
        "sharp_mean", float(np.mean(kept)), "at least", bounds.sharp_mean, "dB",
        f"PSNR of sharp photographs against themselves, mean of {len(kept)}",
    )  # fmt: skip
    yield Check(
        "sharp_worst", min(kept), "at least", bounds.sharp_worst, "dB",
        f"PSNR of the sharp photograph changed most, of {len(kept)}",
    )  # fmt: skip


def _fields(look: _Look, bounds: HarmBounds) -> Iterator[Check]:
    # np.max hands on a NaN, which fails the check; max may lose it.
    changed = np.array(
        [np.abs(look.levels(drawn.flat(256, 320, colour)) - colour) for colour in drawn.FIELDS]
    )
    inner = changed[:, _FRINGE:-_FRINGE, _FRINGE:-_FRINGE]
    yield Check(
        "flat_field", float(np.max(inner)), "at most", bounds.flat_field, "levels",
        f"Largest change of a pixel, {len(drawn.FIELDS)} flat fields",
    )  # fmt: skip
    yield Check(
        "flat_border", float(np.max(changed)), "at most", bounds.flat_border, "levels",
        f"Largest change of a pixel, the outer {_FRINGE} included, {len(drawn.FIELDS)} flat fields",
    )  # fmt: skip


def _text(look: _Look, bounds: HarmBounds) -> Iterator[Check]:
    kept, contrast = [], []
    for ink, paper in INKS:
        page = drawn.text(ink, paper)
        result = look.delivered(page)
        kept.append(min(EQUAL, psnr(result, page)))
        centred = page - page.mean()
        contrast.append(float((centred * result).sum() / (centred * page).sum()))
    yield Check(
        "text", min(kept), "at least", bounds.text, "dB",
        f"PSNR of drawn text against itself, the worst of {len(INKS)} inks",
    )  # fmt: skip
    yield Check(
        "text_contrast", min(contrast), "at least", bounds.text_contrast, "",
        f"Contrast of drawn text over the input's, the worst of {len(INKS)} inks",
    )  # fmt: skip


def _edges(look: _Look, bounds: HarmBounds) -> Iterator[Check]:
    picture = drawn.edges()
    result, height = look.levels(picture), float(drawn.EDGE_HIGH - drawn.EDGE_LOW)
    bright = picture[..., 0] == drawn.EDGE_HIGH
    far = _inside(_far_from(bright, _RINGING_FROM))
    bright, result = _inside(bright), _inside(result)
    # From the level that either side has: whether that is right, the flat fields tell.
    level = np.where(
        bright[..., None], np.median(result[bright & far]), np.median(result[~bright & far])
    )
    away = np.where(bright[..., None], result - level, level - result)
    yield Check(
        "edge_overshoot", float(away.max()) / height, "at most", bounds.edge_overshoot, "",
        f"Largest overshoot beside an edge of {height:g} levels, over its height",
    )  # fmt: skip
    yield Check(
        "edge_ringing", float(np.abs(away[far]).max()) / height, "at most", bounds.edge_ringing, "",
        f"Largest deviation {_RINGING_FROM} pixels or more from an edge of {height:g} levels, over "
        "its height",
    )  # fmt: skip


def _noise(look: _Look, pictures: Sequence[np.ndarray], bounds: HarmBounds) -> Check:
    gains = []
    for picture in pictures:
        clean = look.levels(picture)
        for sigma in NOISE:
            grainy = drawn.noisy(picture, sigma)
            gains.append(
                (look.levels(grainy) - clean).std() / (grainy - picture.astype(float)).std()
            )
    return Check(
        "noise_gain", float(np.max(gains)), "at most", bounds.noise_gain, "",
        f"Standard deviation of Gaussian noise of {NOISE} levels, after over before",
    )  # fmt: skip


def _gradient(look: _Look, bounds: HarmBounds) -> Check:
    picture = drawn.gradient()
    across = look.levels(picture)
    down = look.levels(np.ascontiguousarray(picture.swapaxes(0, 1))).swapaxes(0, 1)
    steps = [np.diff(_inside(levels), axis=1) for levels in (across, down)]
    wanted = np.diff(_inside(picture.astype(np.float64)), axis=1)
    return Check(
        "gradient_step", float(np.max(np.abs(np.array(steps) - wanted))), "at most",
        bounds.gradient_step, "levels",
        "Largest change of a step from pixel to pixel, black to white in steps of one level",
    )  # fmt: skip


def _extremes(look: _Look, pictures: dict[str, np.ndarray]) -> Check:
    broken = []
    for name, picture in pictures.items():
        planes = look.planes(picture)
        whole = planes.shape == to_float(picture).shape and bool(np.isfinite(planes).all())
        # Half the range beyond its ends is no overshoot any more, though delivering would hide it.
        if not whole or np.abs(planes).max() > 2.0:
            broken.append(name)
    found = f": broken {', '.join(broken)}" if broken else ""
    return Check(
        "extremes", float(len(broken)), "at most", 0.0, "pictures",
        "Results of another size, not finite, or beyond the range by half of it, of "
        f"{len(pictures)} extreme pictures{found}",
    )  # fmt: skip


def _finite(planes: np.ndarray) -> np.ndarray:
    """With black for what is not a number: no picture has room for one."""
    return np.nan_to_num(planes, nan=-1.0)


def _inside(pixels: np.ndarray) -> np.ndarray:
    return pixels[_FRINGE:-_FRINGE, _FRINGE:-_FRINGE]


def _middle(picture: np.ndarray) -> np.ndarray:
    top, left = (max(0, (size - _NOISY_SIDE) // 2) for size in picture.shape[:2])
    return np.ascontiguousarray(picture[top : top + _NOISY_SIDE, left : left + _NOISY_SIDE])


def _far_from(region: np.ndarray, distance: int) -> np.ndarray:
    """Where every pixel of the square of ``2 distance + 1`` lies on the same side of ``region``."""
    padded = np.pad(region, distance, mode="edge")
    squares = np.lib.stride_tricks.sliding_window_view(padded, (2 * distance + 1,) * 2)
    return np.asarray(squares.all(axis=(2, 3)) | ~squares.any(axis=(2, 3)))
