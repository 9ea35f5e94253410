"""Camera shake made on the training device, for training from sharp photographs alone.

Every crop of every epoch gets a blur of its own, which no folder of pairs could hold. The loader
hands over sharp crops with a margin and where the sub-frames look (``photo_crops``); the device
takes the sub-frames, averages them and adds the noise. It is the shake of ``synthesis.shake`` but
for two things. Pillow cuts off what is behind the point in each sub-frame, so its blurred
pictures are up to 0.5 of 255 darker; and its bicubic kernel has a = -0.5, torch's -0.75, which
shows at edges: 6 of 255 at most, and beside a stretched highlight up to 70
(``tests/data/synthesis/test_on_device.py``).
"""

from typing import NamedTuple, Self

import torch
import torch.nn.functional as F
from torch import Tensor

from deblur.data.layout import Averaging
from deblur.data.randomness import Stream
from deblur.data.synthesis.blur import GAMMA, HIGHLIGHT
from deblur.data.synthesis.shake import ShakeConfig


class PhotoBatch(NamedTuple):
    """Sharp crops and the shake that each is to get.

    Attributes:
        sharp: ``[N, M + S + M, M + S + M, 3]`` uint8, turned as they are trained on.
        margin: the ``M`` above.
        views: ``[N, T, 3, 3]`` float32, where each sub-frame looks: ``synthesis.blur.views`` of the
            crop with its margin.
        highlights: ``[N]`` float32, how many times the light of white a white pixel stands for.
        places: ``[N, 2]`` int64, epoch and number of each crop, which its noise follows from.
    """

    sharp: Tensor
    margin: int
    views: Tensor
    highlights: Tensor
    places: Tensor

    def to(self, device: torch.device | str, non_blocking: bool = True) -> Self:
        """The same batch on a device."""
        return self._replace(
            sharp=self.sharp.to(device, non_blocking=non_blocking),
            views=self.views.to(device, non_blocking=non_blocking),
            highlights=self.highlights.to(device, non_blocking=non_blocking),
            places=self.places.to(device, non_blocking=non_blocking),
        )


@torch.no_grad()
def shake_batch(batch: PhotoBatch, config: ShakeConfig) -> tuple[Tensor, Tensor]:
    """Blur a batch on the device it is on.

    One sub-frame is held at a time, so memory does not grow with the length of the blur. Every
    crop is a function of its own row of the batch, whatever else is in the batch.

    Returns:
        ``(blurred, sharp)``: ``[N, 3, S, S]`` float32 in [-1, 1], channels last in memory, on the
        grid of 8-bit pictures. Aligned exactly: the middle sub-frame is the sharp crop.
    """
    whole = batch.sharp.permute(0, 3, 1, 2).float()
    inner = slice(batch.margin, whole.shape[2] - batch.margin)
    sharp = whole[:, :, inner, inner]
    mean = expose(whole, batch.views, batch.margin, config.averaging, batch.highlights)
    if config.noise > 0 or config.shot_noise > 0:
        variance = config.noise**2 + config.shot_noise**2 / 255.0 * mean
        mean = mean + variance.sqrt_() * normal_noise(config.seed, batch.places, mean.shape[2])
    blurred = mean.round_().clamp_(0.0, 255.0)
    return _normalised(blurred), _normalised(sharp)


def expose(
    whole: Tensor, views: Tensor, margin: int, averaging: Averaging, highlights: Tensor
) -> Tensor:
    """The mean of the sub-frames, as ``deblur.data.synthesis.blur.motion_blur`` takes it.

    Args:
        whole: ``[N, 3, M + S + M, M + S + M]`` float32 in 0..255.
        views: ``[N, T, 3, 3]``, ``T`` odd, the middle one the identity.
        margin: ``M`` in pixels.
        averaging: which of the two averages.
        highlights: ``[N]``, the light of white in whites.

    Returns:
        ``[N, 3, S, S]`` float32 in 0..255, not rounded.
    """
    steps = views.shape[1]
    side = whole.shape[2]
    inner = slice(margin, side - margin)
    # Pixel centres from the picture's centre: the coordinates of ``views``.
    line = torch.arange(margin, side - margin, device=whole.device) + (0.5 - side / 2)
    y, x = line.view(1, -1, 1), line.view(1, 1, -1)
    boost = (highlights - 1.0).view(-1, 1, 1, 1)
    total = _light(whole[:, :, inner, inner], averaging, boost)
    for step in range(steps):
        if step == steps // 2:
            continue  # the crop itself, to the bit
        # By hand: a matrix product may run in TF32 or bfloat16, a tenth of a pixel off.
        rows = views[:, step].view(-1, 3, 3, 1, 1).unbind(1)
        to_x, to_y, scale = (row[:, 0] * x + row[:, 1] * y + row[:, 2] for row in rows)
        # With align_corners=False, -1 and 1 are the picture's edges and not its outer pixels'
        # centres, so a length of ``side / 2`` is 1.
        grid = torch.stack((to_x / scale, to_y / scale), dim=-1) * (2.0 / side)
        frame = F.grid_sample(
            whole, grid, mode="bicubic", padding_mode="border", align_corners=False
        )
        total += _light(frame.clamp_(0.0, 255.0), averaging, boost)
    mean = (total / steps).clamp_(max=1.0)
    return mean.pow_(1.0 / GAMMA).mul_(255.0) if averaging == "blur_gamma" else mean.mul_(255.0)


def _light(values: Tensor, averaging: Averaging, boost: Tensor) -> Tensor:
    """The light that pixel values in 0..255 stand for, in whites: ``light_table``'s formula."""
    light, start = values / 255.0, HIGHLIGHT / 255.0
    if averaging == "blur_gamma":
        light, start = light.pow_(GAMMA), start**GAMMA
    above = ((light - start) / (1.0 - start)).clamp_(min=0.0)
    return light.addcmul_(above, boost.expand_as(above))


def normal_noise(seed: int, places: Tensor, side: int) -> Tensor:
    """Standard normal noise ``[N, 3, S, S]`` float32, a pure function of seed and places.

    Counter-based like ``deblur.data.randomness``, but drawn on the device: a crop's noise depends
    neither on its batch nor on how many numbers were drawn before. Normal by Box and Muller, "A
    Note on the Generation of Random Normal Deviates", 1958.

    Args:
        seed: below 2^64.
        places: ``[N, 2]`` int64, epoch and number, below 2^32.
        side: ``S`` in pixels.
    """
    count = -(-3 * side * side // 4)
    counter = torch.arange(count, device=places.device).expand(len(places), count)
    epoch, number = (column.view(-1, 1).expand_as(counter) for column in places.unbind(1))
    stream = torch.full_like(counter, int(Stream.BLUR))
    words = philox((counter, epoch, number, stream), seed)
    # In (0, 1], as a logarithm of 0 would be infinite; 24 bits, as many as float32 holds.
    uniform = [(word >> 8).float().add_(1.0).mul_(2.0**-24) for word in words]
    normal = []
    for radius, angle in (uniform[:2], uniform[2:]):
        length, turn = radius.log().mul_(-2.0).sqrt_(), angle * (2.0 * torch.pi)
        normal += [length * turn.cos(), length * turn.sin()]
    drawn = torch.stack(normal, dim=-1).flatten(1)[:, : 3 * side * side]
    return drawn.view(-1, 3, side, side)


def philox(counter: tuple[Tensor, Tensor, Tensor, Tensor], seed: int) -> tuple[Tensor, ...]:
    """Four random words of 32 bits for each counter of four: Philox4x32-10.

    Salmon et al., "Parallel Random Numbers: As Easy as 1, 2, 3", SC 2011, section 3.3.

    Args:
        counter: four int64 tensors of one shape, values below 2^32.
        seed: the key, below 2^64.
    """
    mask = 0xFFFFFFFF
    a, b, c, d = counter
    key = [seed & mask, seed >> 32]
    for _ in range(10):
        # The products fill 64 bits; as signed numbers they overflow, but keep the bits.
        first, second = a * 0xD2511F53, c * 0xCD9E8D57
        a, c = (second >> 32 & mask) ^ b ^ key[0], (first >> 32 & mask) ^ d ^ key[1]
        b, d = second & mask, first & mask
        key = [key[0] + 0x9E3779B9 & mask, key[1] + 0xBB67AE85 & mask]
    return a, b, c, d


def _normalised(values: Tensor) -> Tensor:
    """0..255 to [-1, 1], in the order of memory that convolutions are fast with."""
    return (values / 127.5 - 1.0).contiguous(memory_format=torch.channels_last)
