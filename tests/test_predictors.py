"""One model behind every kind of address: the same pictures, hence the same figures."""

import http.server
import json
import shutil
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch

from deblur.data.pairs import open_pairs
from deblur.digests import file_sha256
from deblur.errors import CheckpointError, ModelFileError, PictureError, SetupError
from deblur.evaluation import evaluate
from deblur.export import export_checkpoint
from deblur.images import Limits, to_float, to_uint8
from deblur.predictors import open_predictor
from deblur.serving.app import create_app
from deblur.serving.engine import Engine
from deblur.training.checkpoint import load_checkpoint, save_checkpoint
from tests.serving.live import serving


@contextmanager
def serving_model(model: Path, limits: Limits = Limits()) -> Iterator[str]:
    with serving(create_app(Engine(model, threads=1), limits)) as address:
        yield address


Answer = Callable[[http.server.BaseHTTPRequestHandler], None]


@contextmanager
def answering(get: Answer, post: Answer | None = None) -> Iterator[str]:
    """A server of another kind."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            get(self)

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            assert post is not None
            post(self)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def says(content: bytes, code: int = 200, **headers: str) -> Answer:
    def answer(handler: http.server.BaseHTTPRequestHandler) -> None:
        handler.send_response(code)
        handler.send_header("Content-Length", str(len(content)))
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(content)

    return answer


READY = says(
    json.dumps(
        {
            "status": "ready",
            "model": {
                "sha256": "a" * 64, "architecture": "unet", "base_ch": 8, "tile": 64, "overlap": 16
            },
        }
    ).encode()
)  # fmt: skip


def test_checkpoint_folder_file_and_server_give_the_same_figures(
    tiny_run: Path, tiny_root: Path, tmp_path: Path
) -> None:
    run, file = tmp_path / "run", tmp_path / "model.onnx"
    strong = load_checkpoint(tiny_run / "best.pt")
    # Two epochs hardly change a picture; this network does.
    for weights in (strong.model, strong.ema or {}):
        weights["final.weight"] = torch.linspace(-0.1, 0.1, 24).reshape(3, 8, 1, 1)
    save_checkpoint(run / "best.pt", strong)
    export_checkpoint(load_checkpoint(run / "best.pt"), file, {"test_psnr": 20.0}, "recorded")
    pairs = open_pairs(tiny_root, "train")
    found = {}
    with serving_model(file) as server:
        for address in (str(run / "best.pt"), str(run), str(file), server):
            with open_predictor(address) as model:
                found[address] = evaluate(model.predict, pairs)
                assert (model.tile, model.overlap) == (64, 16)
                assert model.network == "DeblurUNet, base_ch 8"
                assert model.address == address
    first, *others = found.values()
    assert len(first.pictures) == 4
    assert max(abs(picture.gain) for picture in first.pictures) > 0.5
    for other in others:
        for ours, theirs in zip(first.pictures, other.pictures, strict=True):
            assert theirs.result.psnr == pytest.approx(ours.result.psnr, abs=0.01)
            assert theirs.result.ssim == pytest.approx(ours.result.ssim, abs=1e-3)
            assert theirs.blurred == ours.blurred


def test_the_identity_is_the_digest_of_the_file_that_is_run(
    tiny_run: Path, tiny_model: Path
) -> None:
    best = file_sha256(tiny_run / "best.pt")
    with open_predictor(str(tiny_run)) as of_folder, open_predictor(f"{tiny_run}/best.pt") as of_pt:
        assert of_folder.identity == of_pt.identity == best
        assert of_folder.kind == of_pt.kind == "checkpoint"
    with open_predictor(str(tiny_model)) as of_file:
        assert of_file.identity == file_sha256(tiny_model)
        assert (of_file.kind, of_file.precision) == ("onnx", "fp32")
    with serving_model(tiny_model) as server, open_predictor(server) as of_server:
        assert of_server.identity == file_sha256(tiny_model)
        assert of_server.kind == "server"


def test_a_folder_without_a_best_is_run_by_its_newest_checkpoint(
    tiny_run: Path, tmp_path: Path
) -> None:
    run = shutil.copytree(tiny_run, tmp_path / "run")
    (run / "best.pt").unlink()
    newest = json.loads((run / "latest.json").read_text())["latest"]
    with open_predictor(str(run)) as model:
        assert model.identity == file_sha256(run / newest)


def test_a_server_is_sent_and_answers_eight_bits(tiny_model: Path, detail: np.ndarray) -> None:
    planes = to_float(detail)
    with serving_model(tiny_model) as server, open_predictor(server) as of_server:
        answered = of_server.predict(planes)
    with open_predictor(str(tiny_model)) as of_file:
        own = of_file.predict(planes)
    assert answered.shape == planes.shape and answered.dtype == np.float32
    assert np.array_equal(to_uint8(answered), to_uint8(own))
    assert np.array_equal(answered, to_float(to_uint8(own)))


def test_a_server_that_refuses_a_picture_is_quoted(tiny_model: Path, detail: np.ndarray) -> None:
    with (
        serving_model(tiny_model, Limits(megapixels=0.001)) as server,
        open_predictor(server) as model,
        pytest.raises(PictureError, match=r"the limit is 0\.001"),
    ):
        model.predict(to_float(detail))


def test_nobody_at_the_address_is_said_with_what_mends_it() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{free.getsockname()[1]}"
        with (
            pytest.raises(SetupError, match=r"does not answer \(.*refused.*deblur serve"),
            open_predictor(address),
        ):
            pass


def test_a_server_that_keeps_silent_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deblur.client._READY_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with (
            pytest.raises(SetupError, match=r"does not answer \(no answer within 0\.2 s\)"),
            open_predictor(address),
        ):
            pass


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (says(b"not found", 404), r"/readyz answers 404 \(Not Found\)"),
        (says(b'{"detail": "the model is loading"}', 503), r"503 \(the model is loading\)"),
        (says(b"<html>"), r"answers b'<html>'.*without a path"),
        (says(b'{"status": "ready"}'), "does not describe a model"),
        (says(b'{"model": {"sha256": "ab", "tile": "wide"}}'), "does not describe a model"),
    ],
)
def test_a_server_of_another_kind_is_told_apart(answer: Answer, message: str) -> None:
    with (
        answering(answer) as address,
        pytest.raises(SetupError, match=message),
        open_predictor(address),
    ):
        pass


def test_a_model_that_changes_under_way_ends_the_measurement(detail: np.ndarray) -> None:
    with (
        answering(READY, says(b"", X_Deblur_Model="b" * 64)) as address,
        open_predictor(address) as model,
        pytest.raises(SetupError, match=r"now runs model bbbbbbbbbbbb, at the start it was aaaa"),
    ):
        model.predict(to_float(detail))


@pytest.mark.parametrize(
    ("address", "error", "message"),
    [
        ("none.pt", CheckpointError, "there is no checkpoint none.pt"),
        ("none.onnx", ModelFileError, "there is no model file none.onnx"),
        ("http://", SetupError, "does not answer"),
    ],
)
def test_what_is_not_there_is_said(address: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message), open_predictor(address):
        pass
