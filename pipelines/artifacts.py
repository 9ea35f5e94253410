"""What a flow run shows on Prefect's page. Keys are stable, so that the page keeps their history.

Pictures stand in Markdown as data URIs: they are in Prefect's own database, hence small.
"""

import base64
import io
import json
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from PIL import Image
from prefect.artifacts import (
    create_link_artifact,
    create_markdown_artifact,
    create_table_artifact,
)

from components.evaluate import SHEET, EvalResult
from components.promote import Promotion
from components.register import Registration
from components.train import TrainResult
from components.validate import DataReport
from deblur.tracking import load_mlflow

VALIDATION, CURVE, EVALUATION = "data-validation", "learning-curve", "evaluation"
BEFORE_AFTER, GATE, RUN, VERSION = "before-after", "gate-decision", "mlflow-run", "model-version"

#: Rows of the table of pictures, and bytes of a picture.
ROWS, PICTURE_BYTES = 50, 200_000
_WIDTH = 1200


def show_validation(report: DataReport) -> None:
    """What validation found, as Markdown."""
    create_markdown_artifact(
        report.summary, key=VALIDATION, description=f"{report.data_root}, {report.subset}"
    )


def show_training(training: TrainResult) -> None:
    """The learning curve, and where the run is tracked."""
    folder = Path(training.checkpoint).parent
    said = (
        f"PSNR {training.psnr:.2f} dB on the validation pictures after {training.epochs} epochs, "
        f"blurred input {training.blurred_psnr:.2f} dB"
        f"{'; stopped early' if training.stopped_early else ''}."
    )
    curve = folder / "learning_curve.png"
    picture = f"\n\n![learning curve]({data_uri(curve)})" if curve.is_file() else ""
    create_markdown_artifact(f"{said}{picture}\n", key=CURVE, description=folder.name)
    _link(f"/#/runs/{training.run_id}", f"run {training.run_id}", RUN, folder.name)


def show_evaluation(evaluation: EvalResult, about: str) -> None:
    """A table of pictures, those that gained least first, and a few of them before and after."""
    pictures = json.loads(Path(evaluation.scores_path).read_text("utf-8"))["pictures"]
    gains = [p["result"]["psnr"] - p["blurred"]["psnr"] for p in pictures]
    order = sorted(range(len(pictures)), key=lambda index: gains[index])[:ROWS]
    head = {
        "picture": f"all {evaluation.pictures} pictures",
        "blurred dB": f"{evaluation.blurred_psnr:.2f}",
        "deblurred dB": f"{evaluation.psnr:.2f}",
        "gain dB": f"{evaluation.psnr - evaluation.blurred_psnr:+.2f}",
    }
    rows = [
        {
            "picture": f"{pictures[index]['scene']}/{pictures[index]['name']}",
            "blurred dB": f"{pictures[index]['blurred']['psnr']:.2f}",
            "deblurred dB": f"{pictures[index]['result']['psnr']:.2f}",
            "gain dB": f"{gains[index]:+.2f}",
        }
        for index in order
    ]
    least = f"; the {ROWS} that gained least" if len(pictures) > ROWS else ""
    description = f"{about}, split {evaluation.split}{least}"
    create_table_artifact([head, *rows], key=EVALUATION, description=description)
    said = "\n".join(f"- {sentence}" for sentence in evaluation.sentences)
    sheet = Path(evaluation.report, SHEET)
    picture = f"\n\n![before and after]({data_uri(sheet)})" if sheet.is_file() else ""
    create_markdown_artifact(
        f"{said}{picture}\n\nReport: `{Path(evaluation.report, 'report.html')}`\n",
        key=BEFORE_AFTER, description=description,
    )  # fmt: skip


def show_version(registration: Registration) -> None:
    """Where the registered version is."""
    _link(
        f"/#/models/{registration.name}/versions/{registration.version}",
        f"{registration.name}, version {registration.version}",
        VERSION,
        f"run {registration.run_id}",
    )


def show_decision(promotion: Promotion) -> None:
    """The gate's verdict and its evidence."""
    verdict = "promoted" if promotion.promoted else "refused"
    champion = f"version {promotion.champion}" if promotion.champion else "none"
    body = promotion.summary or f"# Version {promotion.version}: {promotion.reason}\n"
    create_markdown_artifact(
        f"{body}\nChampion now: {champion}\n",
        key=GATE, description=f"version {promotion.version}: {verdict}",
    )  # fmt: skip


def data_uri(file: Path) -> str:
    """A picture as an address that holds it: JPEG of at most 1200 pixels in width and 200 kB."""
    with Image.open(file) as opened:
        picture = opened.convert("RGB")
    width, quality = min(picture.width, _WIDTH), 85
    while True:
        shown = picture
        if width < picture.width:
            shown = picture.resize((width, max(1, picture.height * width // picture.width)))
        encoded = io.BytesIO()
        shown.save(encoded, "JPEG", quality=quality)
        if encoded.tell() <= PICTURE_BYTES:
            return "data:image/jpeg;base64," + base64.b64encode(encoded.getvalue()).decode()
        width, quality = width * 3 // 4, 70


def page_of_store(store: str) -> str | None:
    """The address of MLflow's page; ``None`` of a store that has no page."""
    is_server = urlsplit(store).scheme in ("http", "https")
    return without_password(store).rstrip("/") if is_server else None


def without_password(store: str) -> str:
    """The address of a store for others to see."""
    parts = urlsplit(store)
    if "@" not in parts.netloc:
        return store
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def _link(path: str, text: str, key: str, description: str) -> None:
    store = str(load_mlflow().get_tracking_uri())
    page = page_of_store(store)
    if page is not None:
        create_link_artifact(f"{page}{path}", text, key=key, description=description)
        return
    create_markdown_artifact(
        f"{text} is in the store `{without_password(store)}`. `mlflow server` shows it.\n",
        key=key, description=description,
    )  # fmt: skip
