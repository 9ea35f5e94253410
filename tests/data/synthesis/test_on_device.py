"""Shake made on the device: the same blur as on the CPU, a function of (seed, epoch, number)."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader

from deblur.data.crops import Crop, EpochBatches
from deblur.data.feed import as_it_is
from deblur.data.layout import Averaging
from deblur.data.pairs import Box
from deblur.data.photo_crops import PhotoCrops
from deblur.data.randomness import Stream, generator
from deblur.data.synthesis.blur import motion_blur, views
from deblur.data.synthesis.on_device import PhotoBatch, expose, normal_noise, philox, shake_batch
from deblur.data.synthesis.scenes import discs, gratings, lettering, masonry
from deblur.data.synthesis.shake import ShakeConfig, random_shake
from deblur.errors import DataError

CONFIG = ShakeConfig(
    shortest=4, longest=14, roll=0.8, perspective=1.0, noise=1.5, shot_noise=2.0, highlights=3.0
)
DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


def drawing(draw: Callable[[np.random.Generator], Image.Image], side: int = 150) -> np.ndarray:
    return np.array(draw(generator(7, Stream.SCENE, 0)))[:side, :side]


class InMemory:
    """Pairs of sharp pictures, each with itself times ``blurred`` as the blurred one."""

    def __init__(self, pictures: Sequence[np.ndarray], blurred: int = 1) -> None:
        self.pictures, self.blurred = list(pictures), blurred
        self.scenes = ["wall"] * len(self.pictures)
        self.names = [f"{number}.png" for number in range(1, len(self.pictures) + 1)]

    def __len__(self) -> int:
        return len(self.pictures)

    def size(self, index: int) -> tuple[int, int]:
        height, width = self.pictures[index].shape[:2]
        return height, width

    def read(self, index: int, box: Box | None = None) -> tuple[np.ndarray, np.ndarray]:
        sharp = self.pictures[index] if box is None else self.pictures[index][box]
        return sharp * np.uint8(self.blurred), sharp


def crops(config: ShakeConfig = CONFIG, size: int = 48) -> PhotoCrops:
    pictures = [drawing(masonry), drawing(lettering), drawing(discs)]
    return PhotoCrops(InMemory(pictures), config, size, crops_per_image=2)


def exposed_both_ways(
    picture: np.ndarray,
    averaging: Averaging,
    highlights: float,
    device: str = "cpu",
    number: int = 0,
) -> tuple[np.ndarray, np.ndarray]:
    """``motion_blur`` and what the device makes of the same path, ``[h, w, 3]`` in 0..255."""
    path, _ = random_shake(CONFIG, generator(2, Stream.BLUR, number))
    side = len(picture)
    reference, _ = motion_blur(picture, path, averaging, highlights)
    made = expose(
        torch.from_numpy(picture)[None].permute(0, 3, 1, 2).float().to(device),
        torch.from_numpy(views(path, side, side))[None].float().to(device),
        path.reach(side, side),
        averaging,
        torch.tensor([highlights], device=device),
    )
    return reference, made[0].permute(1, 2, 0).cpu().numpy()


@pytest.mark.parametrize("device", DEVICES)
def test_a_smooth_picture_is_blurred_as_on_the_cpu_to_a_tenth_of_a_level(device: str) -> None:
    # Where interpolation kernels agree, only the places looked at could differ. A shift of a
    # quarter of a pixel would make a difference of more than 1.
    y, x = np.mgrid[:150, :150]
    waves = (np.sin(x / 17 + y / 29), np.cos(y / 19), np.sin((x - y) / 23))
    smooth = np.stack([127 + 100 * wave for wave in waves], axis=-1).round().astype(np.uint8)
    reference, made = exposed_both_ways(smooth, "blur", 1.0, device)
    # Pillow cuts each sub-frame to whole values: half a level in the mean.
    assert 0.4 < (made - reference).mean() < 0.5
    assert (made - reference).std() < 0.1


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("averaging", ["blur", "blur_gamma"])
@pytest.mark.parametrize("draw", [masonry, lettering, discs, gratings])
def test_detail_is_blurred_as_on_the_cpu_within_the_kernels_difference(
    draw: Callable, averaging: Averaging, device: str
) -> None:
    for number in range(3):
        reference, made = exposed_both_ways(drawing(draw), averaging, 1.0, device, number)
        difference = np.abs(made - reference)
        assert difference.mean() < 0.6
        assert np.percentile(difference, 99) < 2.5
        assert difference.max() < 8.0


@pytest.mark.parametrize("averaging", ["blur", "blur_gamma"])
def test_highlights_stay_saturated_on_the_device_too(averaging: Averaging) -> None:
    night = np.zeros((150, 150, 3), np.uint8)
    night[70:76, 70:76] = 255
    reference, made = exposed_both_ways(night, averaging, 3.0)
    plain, _ = exposed_both_ways(night, averaging, 1.0)
    assert made.max() == pytest.approx(255, abs=1e-3) and plain.max() < 250
    whole = (reference > 254.9).sum(), (made > 254.9).sum()
    assert whole[0] > 3 * 40 and abs(whole[0] - whole[1]) < 0.1 * whole[0]
    assert np.abs(reference - made).mean() < 0.5


def test_the_sharp_crop_is_untouched_and_without_motion_the_blurred_one_equals_it() -> None:
    config = ShakeConfig(noise=0.0, longest=12, highlights=1.0)
    batch = crops(config).__getitems__([Crop(0, 0), Crop(0, 1)])
    still = batch._replace(views=torch.eye(3).expand_as(batch.views))
    blurred, sharp = shake_batch(still, config)
    m = batch.margin
    pixels = batch.sharp[:, m:-m, m:-m].permute(0, 3, 1, 2).float()
    assert torch.equal(sharp, pixels / 127.5 - 1.0)
    assert torch.equal(blurred, sharp)


def test_pairs_are_aligned_no_shift_explains_the_blurred_crop_better() -> None:
    config = ShakeConfig(noise=0.0, wobble=0.0, shortest=8, longest=8, highlights=1.0)
    batch = crops(config, 64).__getitems__([Crop(e, n) for e in range(8) for n in range(3)])
    blurred, sharp = shake_batch(batch, config)
    inner = blurred[:, :, 4:-4, 4:-4]

    def error(dy: int, dx: int) -> float:
        return float((inner - sharp[:, :, 4 + dy : 60 + dy, 4 + dx : 60 + dx]).square().mean())

    errors = {(dy, dx): error(dy, dx) for dy in range(-3, 4) for dx in range(-3, 4)}
    assert min(errors, key=errors.__getitem__) == (0, 0)


def test_what_comes_out_is_a_normalised_picture_of_8_bits_in_channels_last() -> None:
    blurred, sharp = shake_batch(crops().__getitems__([Crop(0, n) for n in range(5)]), CONFIG)
    for pictures in (blurred, sharp):
        assert pictures.shape == (5, 3, 48, 48) and pictures.dtype == torch.float32
        assert pictures.is_contiguous(memory_format=torch.channels_last)
        assert -1 <= pictures.min() < pictures.max() <= 1
        levels = (pictures + 1.0) * 127.5
        assert (levels - levels.round()).abs().max() < 1e-4


def test_a_batch_is_a_function_of_seed_epoch_and_number() -> None:
    def made(config: ShakeConfig, *chosen: Crop) -> Tensor:
        return torch.cat(shake_batch(crops(config).__getitems__(chosen), config), dim=1)

    base = made(CONFIG, Crop(3, 1))
    assert torch.equal(base, made(CONFIG, Crop(3, 1)))
    # Neighbours in the batch and the place in it change nothing.
    assert torch.equal(base, made(CONFIG, Crop(0, 5), Crop(3, 1))[1:])
    other_seed = CONFIG.model_copy(update={"seed": 1})
    for other in (made(CONFIG, Crop(4, 1)), made(CONFIG, Crop(3, 4)), made(other_seed, Crop(3, 1))):
        assert not torch.equal(base, other)
    assert made(CONFIG).shape == (0, 6, 48, 48)
    paths = [crops()[crop].views for crop in (Crop(3, 1), Crop(4, 1), Crop(3, 4))]
    assert not torch.equal(paths[0], paths[1]) and not torch.equal(paths[0], paths[2])


def test_worker_processes_give_the_same_batches_as_none() -> None:
    dataset = crops()
    batches = EpochBatches(len(dataset), 4, seed=0, epochs=range(2))

    def load(workers: int) -> list[PhotoBatch]:
        loader = DataLoader(
            dataset,
            batch_sampler=batches,
            num_workers=workers,
            collate_fn=as_it_is,
            multiprocessing_context="spawn" if workers else None,
        )
        return list(loader)

    alone, helped = load(0), load(2)
    assert [len(batch.sharp) for batch in alone] == [4, 2, 4, 2]
    for ours, theirs in zip(alone, helped, strict=True):
        assert ours.margin == theirs.margin
        for name in ("sharp", "views", "highlights", "places"):
            assert torch.equal(getattr(ours, name), getattr(theirs, name))


def test_no_path_looks_beyond_the_margin() -> None:
    dataset = crops()
    batch = dataset.__getitems__([Crop(epoch, 0) for epoch in range(200)])
    half = dataset.patch_size / 2
    corners = torch.tensor([[x, y, 1.0] for x in (-half, half) for y in (-half, half)]).T
    seen = batch.views @ corners
    farthest = (seen[:, :, :2] / seen[:, :, 2:]).abs().max()
    assert half + 4 < farthest < half + dataset.margin - 1
    assert dataset.side == batch.sharp.shape[1] == 48 + 2 * dataset.margin
    assert torch.equal(batch.views[:, batch.views.shape[1] // 2], torch.eye(3).expand(200, 3, 3))


def test_crops_of_pairs_are_of_their_sharp_pictures() -> None:
    blackened = InMemory([drawing(masonry)], blurred=0)
    of_pairs = PhotoCrops(blackened, CONFIG, 48)
    in_memory = PhotoCrops(InMemory([drawing(masonry)]), CONFIG, 48)
    assert torch.equal(of_pairs[Crop(1, 0)].sharp, in_memory[Crop(1, 0)].sharp)
    assert of_pairs[Crop(1, 0)].sharp.max() > 0
    with pytest.raises(DataError, match=r"wall/1.png is 150x150, smaller than a crop of 128 with"):
        PhotoCrops(blackened, CONFIG, 128)
    with pytest.raises(DataError, match="no sharp pictures"):
        PhotoCrops(InMemory([]), CONFIG)


def test_philox_gives_the_words_of_its_authors() -> None:
    # Known answers of Random123 1.14, kat_vectors, "philox4x32 10".
    def words(counter: list[int], seed: int) -> list[int]:
        a, b, c, d = (torch.tensor([value]) for value in counter)
        return [int(word) for word in philox((a, b, c, d), seed)]

    assert words([0, 0, 0, 0], 0) == [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]
    ones = 0xFFFFFFFF
    expected = [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]
    assert words([ones] * 4, ones << 32 | ones) == expected
    pi = [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344]
    expected = [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1]
    assert words(pi, 0x299F31D0 << 32 | 0xA4093822) == expected


@pytest.mark.parametrize("device", DEVICES)
def test_noise_is_standard_normal_and_independent(device: str) -> None:
    places = torch.tensor([[0, 0], [0, 1], [1, 0]], device=device)
    noise = normal_noise(0, places, 127).cpu()
    assert noise.shape == (3, 3, 127, 127)
    assert abs(noise.mean()) < 0.01 and abs(noise.std() - 1) < 0.01
    assert float((noise.abs() < 1).float().mean()) == pytest.approx(0.6827, abs=0.005)
    assert float((noise.abs() > 3).float().mean()) == pytest.approx(0.0027, abs=0.0006)
    rows = torch.cat([noise.flatten(1), noise.roll(1, dims=-1).flatten(1)])
    assert (torch.corrcoef(rows) - torch.eye(6)).abs().max() < 0.02
    assert torch.equal(noise[1:2], normal_noise(0, places[1:2], 127).cpu())


def test_noise_on_a_grey_field_has_the_deviation_asked_for() -> None:
    grey = InMemory([np.full((200, 200, 3), 100, np.uint8)])
    config = ShakeConfig(noise=2.0, shot_noise=6.0, longest=10)
    blurred, _ = shake_batch(PhotoCrops(grey, config, 128)[Crop(0, 0)], config)
    expected = (2.0**2 + 6.0**2 * 100 / 255) ** 0.5
    assert float((blurred * 127.5).std()) == pytest.approx(expected, rel=0.02)


def test_reduced_precision_of_matrix_products_and_autocast_change_nothing() -> None:
    batch = crops().__getitems__([Crop(0, 0)])
    expected, _ = shake_batch(batch, CONFIG)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        blurred, _ = shake_batch(batch, CONFIG)
    assert blurred.dtype == torch.float32 and torch.equal(blurred, expected)
