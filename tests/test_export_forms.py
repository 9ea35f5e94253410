"""Both forms of the file, of every architecture, at any size."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from PIL import Image
from torch import nn

from deblur.contract import INPUT, OUTPUT, Form, ModelContract
from deblur.export import export_checkpoint
from deblur.export_graph import onnx_graph, take_pixels
from deblur.export_parity import measure_parity, parity_pictures
from deblur.images import to_float, to_uint8
from deblur.models import WORDS, DeblurUNet, build_network, traits
from deblur.training.checkpoint import load_checkpoint

LARGEST = (1100, 1500)
DOCUMENT = Path(__file__).parent.parent / "docs" / "export.md"


def session_of(file: Path | bytes) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def pixels_file(tiny_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny network in its uint8 form."""
    path = tmp_path_factory.mktemp("pixels") / "model.uint8.onnx"
    exported = export_checkpoint(
        load_checkpoint(tiny_run / "best.pt"), path, {}, "simulated", form="uint8"
    )
    assert max(exported.parity.values()) <= 1e-4
    return path


def test_the_uint8_form_takes_and_gives_pictures_of_any_number_and_size(pixels_file: Path) -> None:
    model = onnx.load(pixels_file)
    onnx.checker.check_model(model, full_check=True)
    for value in (*model.graph.input, *model.graph.output):
        tensor = value.type.tensor_type
        assert tensor.elem_type == onnx.TensorProto.UINT8
        dims = [d.dim_param or d.dim_value for d in tensor.shape.dim]
        assert dims == ["batch", "height", "width", 3]
    assert [v.name for v in (*model.graph.input, *model.graph.output)] == [INPUT, OUTPUT]
    metadata = {p.key: p.value for p in model.metadata_props}
    assert ModelContract.from_metadata(metadata, "m").form == "uint8"


@pytest.mark.parametrize(("height", "width"), [(1, 1), (97, 131), (33, 250), (203, 301)])
def test_the_uint8_form_gives_the_rounded_result_of_the_float_form(
    pixels_file: Path, tiny_model: Path, photograph: np.ndarray, height: int, width: int
) -> None:
    batch = np.stack([photograph[:height, :width], photograph[::-1][:height, :width]])
    result = session_of(pixels_file).run([OUTPUT], {INPUT: batch})[0]
    assert (result.shape, result.dtype) == (batch.shape, np.uint8)
    planes = session_of(tiny_model)
    for pixels, restored in zip(batch, result, strict=True):
        expected = planes.run([OUTPUT], {INPUT: to_float(pixels)})[0]
        assert np.array_equal(restored, to_uint8(expected))


@pytest.mark.parametrize("form", ["float", "uint8"])
def test_parity_sees_a_difference_in_either_form(
    tiny_run: Path, tiny_model: Path, pixels_file: Path, form: Form
) -> None:
    model = load_checkpoint(tiny_run / "best.pt").network()
    path, pictures = tiny_model if form == "float" else pixels_file, parity_pictures({})
    parity = measure_parity(model, path, form, pictures)
    assert parity.keys() == pictures.keys()
    assert max(parity.values()) <= 1e-4
    assert isinstance(model, DeblurUNet)
    with torch.no_grad():
        model.final.weight += 0.1
    assert min(measure_parity(model, path, form, pictures).values()) > 5e-3


def test_every_level_comes_back_and_what_lies_outside_is_clamped() -> None:
    class Stretched(nn.Module):
        """Three times the contrast in the first channel, the others as they are."""

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * torch.tensor([3.0, 1.0, 1.0]).reshape(1, 3, 1, 1)

    levels = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1).repeat(3, axis=3)
    file = onnx_graph(Stretched(), a_contract("unet", True, "uint8")).SerializeToString()
    result = session_of(file).run([OUTPUT], {INPUT: levels})[0]
    assert np.array_equal(result[..., 1:], levels[..., 1:])
    # Three times an odd distance from 127.5 is exact: no rounding, only the limits.
    stretched = (levels[..., 0].astype(int) * 3 - 255).clip(0, 255)
    assert np.array_equal(result[..., 0], stretched)


def test_halves_are_rounded_to_the_even_neighbour_as_numpy_does() -> None:
    class HalfLevelUp(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.zeros_like(x)  # level 127.5

    file = onnx_graph(HalfLevelUp(), a_contract("unet", True, "uint8")).SerializeToString()
    result = session_of(file).run([OUTPUT], {INPUT: np.full((1, 4, 5, 3), 9, np.uint8)})[0]
    assert result.tolist() == np.full((1, 4, 5, 3), 128).tolist()
    assert to_uint8(np.zeros((1, 3, 1, 1), np.float32)).tolist() == [[[128, 128, 128]]]


def test_the_documentations_programs_run_and_agree(
    pixels_file: Path, tiny_model: Path, photograph: np.ndarray, workplace: Path
) -> None:
    blocks = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == 3
    shutil.copy(pixels_file, workplace / "photo.onnx")
    for name in ("model.onnx", "model.safetensors"):
        shutil.copy(tiny_model.with_name(name), workplace / name)
    Image.fromarray(photograph).save(workplace / "photo.png")
    written = []
    for block in blocks[:2]:
        exec(compile(block, "docs/export.md", "exec"), {})
        with Image.open("sharp.png") as sharp:
            written.append(np.asarray(sharp))
        Path("sharp.png").unlink()
    assert written[0].shape == photograph.shape
    assert not np.array_equal(written[0], photograph)
    assert np.array_equal(written[0], written[1])
    names: dict[str, nn.Module] = {}
    exec(compile(blocks[2], "docs/export.md", "exec"), names)
    with torch.inference_mode():
        planes = names["network"](torch.from_numpy(to_float(photograph)))
    assert np.abs(to_uint8(planes.numpy()).astype(int) - written[0]).max() <= 1


def test_the_documentation_names_every_key_of_the_metadata() -> None:
    table = [line for line in DOCUMENT.read_text(encoding="utf-8").splitlines() if line[:1] == "|"]
    named = set(re.findall(r"`(deblur\.\w+)`", "\n".join(table)))
    assert named == a_contract("unet", True, "float").to_metadata().keys()


VARIANTS = [(word, residual) for word in WORDS for residual in (True, False)]


@pytest.mark.slow
@pytest.mark.parametrize(("word", "residual"), [v for v in VARIANTS if v != ("nafnet", False)])
def test_every_architecture_agrees_with_torch_at_20_random_sizes(word: str, residual: bool) -> None:
    model = a_network(word, residual)
    graph = onnx_graph(model, a_contract(word, residual, "float"))
    float_form = session_of(graph.SerializeToString())
    take_pixels(graph.graph)  # as the uint8 form is made, without a second export by torch
    uint8_form = session_of(graph.SerializeToString())
    photograph = parity_pictures()["coffee 256x256"]
    for height, width in random_sizes():
        rows, columns = np.arange(height) % 256, np.arange(width) % 256
        pixels = photograph[rows][:, columns]
        planes = to_float(pixels)
        with torch.inference_mode():
            expected = model(torch.from_numpy(planes)).numpy()
        assert expected.shape == planes.shape
        assert np.abs(expected - planes).mean() > 1e-3  # the network does something
        result = float_form.run([OUTPUT], {INPUT: planes})[0]
        # Over a whole megapixel onnxruntime's sums for GroupNorm lose digits, torch's do not: the
        # result is then 1e-4 of its largest value away, which with these weights is up to 7.
        limit = 1e-4 if height * width <= 512 * 512 else 2e-4 * np.abs(expected).max()
        assert np.abs(result - expected).max() <= limit, (height, width)
        levels = uint8_form.run([OUTPUT], {INPUT: pixels[None]})[0][0]
        assert np.array_equal(levels, to_uint8(result)), (height, width)


def random_sizes() -> Iterator[tuple[int, int]]:
    """Twenty sizes from the smallest to the largest, small ones as frequent as large ones."""
    yield 1, 1
    rng = np.random.default_rng(20)
    for _ in range(18):
        yield tuple(int(np.exp(rng.uniform(0, np.log(limit)))) for limit in LARGEST)  # type: ignore[misc]
    yield LARGEST


def a_network(word: str, residual: bool) -> nn.Module:
    """Eight channels, no weight at its neutral initial value, every layer at work."""
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        model = build_network(word, 8, residual).eval()
        for weight in model.parameters():
            weight.add_(torch.randn(weight.shape), alpha=0.05)
    return model


def a_contract(word: str, residual: bool, form: str) -> ModelContract:
    kind = traits(word)
    return ModelContract(
        architecture=kind.name, base_ch=8, tile=256, overlap=64, train_crop=256, metrics={},
        data_kind="none", subset="blur", data_digest="d", config_digest="c", code_revision="r",
        norm=kind.norm, residual=residual, form=form,  # type: ignore[arg-type]
    )  # fmt: skip
