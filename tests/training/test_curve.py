"""The picture of a training."""

import math
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from deblur.training.curve import CurvePoint, learning_curve, learning_figure

WHITE = 255


def course(count: int) -> list[CurvePoint]:
    """A training that gains from 26 to 31 dB within three hours and falls back a little at its end;
    the blurred input has 26.4 dB."""
    points = []
    for number in range(1, count + 1):
        part = number / count
        points.append(
            CurvePoint(
                epoch=number,
                step=100 * number,
                crops=1600 * number,
                seconds=3 * 3600 * part,
                train_loss=0.03 + 0.03 * (1 - part),
                val_loss=0.04 + 0.03 * (1 - part),
                psnr=31.0 - 5.0 * (1.0 - part) ** 3 - (0.2 if number == count > 2 else 0.0),
                ssim=0.8 + 0.1 * part,
                blurred_psnr=26.4,
                learning_rate=1e-3 * (1 - part),
            )
        )
    return points


def texts(figure: Figure) -> list[str]:
    """All that is written beside the ticks and the legends."""
    found = [text.get_text() for text in figure.texts]
    for axes in figure.axes:
        found += [text.get_text() for text in axes.texts]
    return [text for text in found if text]


def label_of(points: list[CurvePoint]) -> str:
    (label,) = (text for text in texts(learning_figure(points, "t")) if text.startswith("best"))
    return label


def line(figure: Figure, label: str) -> tuple[list[float], list[float]]:
    """Places and values of a line."""
    (found,) = (
        line for axes in figure.axes for line in axes.get_lines() if line.get_label() == label
    )
    return np.asarray(found.get_xdata()).tolist(), np.asarray(found.get_ydata()).tolist()


def boxes(figure: Figure) -> dict[str, tuple[float, float, float, float]]:
    """Left, bottom, right and top of what is written, in pixels; legends by their first entry."""
    FigureCanvasAgg(figure).draw()
    found = {}
    for text in [*figure.texts, *(text for axes in figure.axes for text in axes.texts)]:
        if text.get_text():
            found[text.get_text()] = text.get_window_extent().extents
    for axes in figure.axes:
        legend = axes.get_legend()
        if legend:
            found["legend " + legend.texts[0].get_text()] = legend.get_window_extent().extents
    return {name: (x0, y0, x1, y1) for name, (x0, y0, x1, y1) in found.items()}


def upper(figure: Figure) -> Axes:
    return figure.axes[0]


@pytest.mark.parametrize("count", [0, 1, 2, 12, 1000])
def test_the_picture_has_1200x800_pixels_and_lines_in_it_however_many_points(count: int) -> None:
    picture = learning_curve(course(count), "a run", "simulated blur")
    assert picture.size == (1200, 800) and picture.mode == "RGB"
    pixels = np.asarray(picture)
    assert (pixels[0] == WHITE).all() and (pixels[-1] == WHITE).all()
    blue = (pixels == (0x00, 0x72, 0xB2)).all(axis=2)  # the model's line, the label or the legend
    vermilion = (pixels == (0xD5, 0x5E, 0x00)).all(axis=2)
    assert blue[100:410].sum() > (100 if count else -1)
    assert vermilion[470:680].sum() > (0 if count else -1)


def test_the_best_point_is_labelled_with_psnr_gain_and_epoch() -> None:
    assert label_of(course(12)) == "best: 31.00 dB (+4.60 dB), epoch 11"
    assert label_of(course(1)) == "best: 31.00 dB (+4.60 dB), epoch 1"
    assert label_of([replace(course(1)[0], psnr=25.9)]) == "best: 25.90 dB (-0.50 dB), epoch 1"


def test_title_and_footer_are_written_as_they_are() -> None:
    written = texts(learning_figure(course(2), "run $a_1$: 3 pictures", "recorded $blur$"))
    assert "run $a_1$: 3 pictures" in written and "recorded $blur$" in written
    learning_curve(course(2), "run $a_1: {", "$\\frac$")  # no formula to be understood


def test_the_lines_are_those_of_the_points() -> None:
    points = course(12)
    figure = learning_figure(points, "t")
    crops = [float(point.crops) for point in points]
    assert line(figure, "deblurred") == (crops, [point.psnr for point in points])
    assert line(figure, "blurred input") == ([0.0, *crops], [26.4] * 13)
    assert line(figure, "training") == (crops, [point.train_loss for point in points])
    assert line(figure, "validation") == (crops, [point.val_loss for point in points])
    rates = [point.learning_rate for point in points]
    assert line(figure, "learning rate (right)") == (crops, rates)
    assert [axes.get_yscale() for axes in figure.axes] == ["linear", "log", "linear"]


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_left_out(bad: float) -> None:
    points = course(12)
    points[3] = replace(points[3], psnr=bad, train_loss=bad, blurred_psnr=bad, learning_rate=bad)
    points[4] = replace(points[4], val_loss=bad, seconds=bad, ssim=bad)
    figure = learning_figure(points, "t")
    crops = [float(point.crops) for point in points]
    for label in ("deblurred", "training", "learning rate (right)"):
        assert line(figure, label)[0] == crops[:3] + crops[4:]
    assert line(figure, "validation")[0] == crops[:4] + crops[5:]
    assert label_of(points) == "best: 31.00 dB (+4.60 dB), epoch 11"
    assert learning_curve(points, "t").size == (1200, 800)


def test_losses_that_have_no_logarithm_are_left_out() -> None:
    points = [replace(point, train_loss=0.0) for point in course(3)]
    assert line(learning_figure(points, "t"), "training") == ([], [])
    assert learning_curve(points, "t").size == (1200, 800)


def test_nothing_known_is_said_so() -> None:
    unknown = [
        CurvePoint(1, 1, 16, math.nan, math.nan, math.nan, math.nan, math.nan, math.nan, math.nan)
    ]
    for points in ([], unknown):
        assert "no PSNR yet" in texts(learning_figure(points, "t"))
        assert learning_curve(points, "t").size == (1200, 800)


def test_equal_values_have_an_axis_with_room() -> None:
    figure = learning_figure([replace(course(1)[0], psnr=30.0, blurred_psnr=30.0)] * 5, "t")
    low, high = upper(figure).get_ylim()
    assert low < 30.0 < high and high - low > 0.1


def test_the_label_of_the_best_is_clear_of_the_blurred_inputs_line() -> None:
    points = [replace(point, blurred_psnr=31.3) for point in course(12)]
    figure = learning_figure(points, "t")
    (bottom,) = (box[1] for name, box in boxes(figure).items() if name.startswith("best"))
    assert bottom > upper(figure).transData.transform((0.0, 31.3))[1]


@pytest.mark.parametrize("best", [0, 1, 5, 10, 11])
def test_nothing_that_is_written_overlaps_or_leaves_the_picture(best: int) -> None:
    points = [
        replace(point, psnr=33.0 if number == best else point.psnr)
        for number, point in enumerate(course(12))
    ]
    figure = learning_figure(points, "a run: PSNR on 240 pictures", "simulated blur")
    found = boxes(figure)
    assert len(found) == 7  # title, footer, label, the names of two axes, two legends
    for name, (left, bottom, right, top) in found.items():
        assert 0 <= left < right <= 1200 and 0 <= bottom < top <= 800, name
        for other, (left2, bottom2, right2, top2) in found.items():
            apart = right <= left2 or right2 <= left or top <= bottom2 or top2 <= bottom
            assert name == other or apart, (name, other)


@pytest.mark.parametrize(
    ("seconds", "unit", "last"),
    [(5.5 * 3600, "hours", "5"), (600.0, "minutes", "10"), (3.0, "seconds", "3")],
)
def test_the_time_is_told_in_a_fitting_unit(seconds: float, unit: str, last: str) -> None:
    points = [replace(point, seconds=seconds * point.epoch / 12) for point in course(12)]
    figure = learning_figure(points, "t")
    assert unit in texts(figure)
    (below,) = figure.axes[1].child_axes
    assert below.get_xticklabels()[0].get_text() == "0"
    assert below.get_xticklabels()[-1].get_text() == last


def test_an_hour_stands_where_the_crops_of_that_time_do() -> None:
    # Half of the crops took one hour, the others three.
    points = [replace(course(2)[k], seconds=3600.0 * (1, 4)[k]) for k in (0, 1)]
    (below,) = learning_figure(points, "t").axes[1].child_axes
    labels = [label.get_text() for label in below.get_xticklabels()]
    where = dict(zip(labels, below.get_xticks(), strict=True))
    assert where["1"] == pytest.approx(1600) and where["4"] == pytest.approx(3200)
    assert where["2.5"] == pytest.approx(2400)


def test_drawing_loads_no_pyplot_and_changes_no_settings() -> None:
    program = (
        "import sys, matplotlib\n"
        "before = dict(dict.items(matplotlib.rcParams))\n"  # looked up, one would load pyplot
        "from deblur.training.curve import CurvePoint, learning_curve\n"
        "learning_curve([CurvePoint(1, 1, 16, 2.0, 0.1, 0.1, 30.0, 0.9, 26.0, 1e-3)], 'a run')\n"
        "assert dict(dict.items(matplotlib.rcParams)) == before\n"
        "print(sorted({'matplotlib.pyplot', 'tkinter', 'torch'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


def test_the_same_points_give_the_same_picture() -> None:
    one, other = (np.asarray(learning_curve(course(5), "t", "f")) for _ in range(2))
    assert np.array_equal(one, other)
    assert not np.array_equal(one, np.asarray(learning_curve(course(6), "t", "f")))
    assert isinstance(learning_curve(course(5), "t"), Image.Image)
