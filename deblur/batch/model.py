"""The model of a batch, and how many pictures it computes side by side."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from deblur.default import DEFAULT
from deblur.digests import json_sha256
from deblur.evaluation import Predict
from deblur.predictors import local_model, open_predictor

#: As ``deblur.images.encode_picture`` has it by default.
QUALITY = 95


@dataclass(frozen=True)
class BatchModel:
    """A model that is ready to run.

    Attributes:
        predict: ``[1, 3, H, W]`` float32 in [-1, 1] to the same; may be called by ``workers``
            threads.
        identity: SHA-256 of the file that holds its weights.
        settings: digest of everything else that decides about the pixels of a result.
        workers: pictures computed side by side.
    """

    predict: Predict
    identity: str
    settings: str
    workers: int


@contextmanager
def open_model(address: str, workers: int | None = None) -> Iterator[BatchModel]:
    """The model at an address, for as long as the block lasts.

    One network uses all cores: two with half of them each take longer for a tile (docs/log.md). So
    an ONNX file computes as many pictures side by side as its setting has streams, which is one
    unless tuning found otherwise; of a server two, as one travels while the other is computed.

    Raises:
        DeblurError: as ``deblur.predictors.open_predictor`` does.
    """
    if address == DEFAULT or address.startswith("models:/") or address.endswith(".onnx"):
        with local_model(address) as path:
            from deblur.serving.engine import Engine

            engine = Engine(path)
            if workers is not None and workers != engine.setting.streams:
                update = {"streams": workers, "threads": None}
                engine = Engine(path, setting=engine.setting.model_copy(update=update))
            setting = engine.setting
            made = _settings(setting.tile, setting.overlap, setting.precision)
            yield BatchModel(engine.predict, engine.sha256, made, setting.streams)
        return
    with open_predictor(address) as opened:
        usual = 2 if opened.kind == "server" else 1
        yield BatchModel(
            opened.predict,
            opened.identity,
            _settings(opened.tile, opened.overlap, opened.precision),
            workers or usual,
        )


def _settings(tile: int, overlap: int, precision: str) -> str:
    return json_sha256([tile, overlap, precision, QUALITY])[:16]
