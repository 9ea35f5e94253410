"""From encoded bytes to encoded bytes: what every interface of the server calls.

A picture is admitted by its megapixels, waits until there is memory for it, is decoded, takes part
in the round of tiles, and is encoded. Cancelling the task that waits for it frees its tiles at
once.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from time import perf_counter
from typing import TypeVar

import numpy as np

from deblur.errors import DeblurError, PictureTooLargeError
from deblur.images import FORMATS, Header, Limits, encode_picture, read_header, read_picture
from deblur.memory import give_back_memory
from deblur.serving.admission import Bound, BusyError, Gate
from deblur.serving.drift import DriftWatch, baseline_of
from deblur.serving.engine import Engine
from deblur.serving.keys import spend
from deblur.serving.scheduler import Scheduler
from deblur.serving.telemetry import Telemetry
from deblur.tiling import TilePlan

Result = TypeVar("Result")

#: Pictures up to this share of the limit have a memory of their own, twice as large, so that they
#: never wait for a large one to be through.
_SMALL = 1 / 8

#: Formats whose encoders hold 35 to 45 bytes a pixel (docs/pictures.md), where others hold 7 to
#: 13: pictures that become one of them count this many times.
_HEAVY, _HEAVY_FORMATS = 5, frozenset({"AVIF", "HEIC"})

#: Megapixels above which the memory of a picture is worth returning to the system.
_LARGE = 4.0

#: Threads that decode and encode.
_CODECS = 4


class DrainingError(DeblurError):
    """The server ends and takes on nothing new. ``retry_after`` is in seconds."""

    status = 503
    retry_after = 5


class DeadlineError(DeblurError):
    """The picture cannot be, or was not, ready by the deadline."""

    status = 504


@dataclass(frozen=True)
class Wanted:
    """How the answer shall be.

    Attributes:
        format: a key of ``FORMATS``; ``None`` for the picture's own.
        keep_metadata: whether EXIF and ICC profile go into the answer.
        quality: 1 to 100, of the formats that lose some.
        first_frame: take the first of several frames or pages, instead of refusing them.
    """

    format: str | None = None
    keep_metadata: bool = True
    quality: int = 95
    first_frame: bool = False


@dataclass(frozen=True)
class Answer:
    """An encoded picture, its media type, and what to say about it in HTTP headers."""

    content: bytes
    media: str
    headers: dict[str, str]


class Service:
    """Deblurs pictures for many clients at once. Its coroutines belong to one event loop.

    Args:
        engine: what computes tiles.
        limits: what pictures are accepted.
        queue_megapixels: of all pictures that are taken on and not answered; beyond it new ones are
            refused with 429. By default four times the largest picture.
        telemetry: what measures it.
        version: the number under which the model is registered, if it is.
        watch: makes the watch over what comes in.

    Attributes:
        limits: what pictures are accepted.
        bodies: bytes of the requests that are held in memory.
        draining: set once nothing new is to be taken on.
    """

    def __init__(
        self,
        engine: Engine,
        limits: Limits = Limits(),
        queue_megapixels: float | None = None,
        telemetry: Telemetry | None = None,
        version: str = "",
        watch: Callable[..., DriftWatch] = DriftWatch,
    ) -> None:
        self.limits = limits
        self.telemetry = telemetry or Telemetry()
        self.bodies = Bound(4 * limits.megabytes * 2**20)
        self.draining = False
        self._taken_on = Bound(queue_megapixels or 4 * limits.megapixels)
        self._small = Gate(2 * _SMALL * limits.megapixels)
        self._large = Gate(limits.megapixels)
        self._codecs = ThreadPoolExecutor(_CODECS, "pictures")
        self._model = _Model(engine, Scheduler(engine.setting.streams), version)
        registry = self.telemetry.registry
        self._watch = watch(baseline_of(engine), engine.sha256, registry=registry)
        self._measure()

    @property
    def engine(self) -> Engine:
        """The model that is served."""
        return self._model.engine

    @property
    def version(self) -> str:
        """Its number in the registry, or ``""``."""
        return self._model.version

    @property
    def idle(self) -> bool:
        """Whether all that was taken on is answered."""
        return self._taken_on.held == 0

    def start(self) -> None:
        """Compute first tiles, so that the first request does not pay for first allocations and an
        estimate of times exists."""
        self._model.warm_up()
        self.telemetry.model(self.engine, self.version)

    async def replace(self, engine: Engine, version: str = "") -> None:
        """Serve another model from now on. It is warm before it takes over; pictures that have been
        begun are finished by the one before, which is freed after that."""
        model = _Model(engine, Scheduler(engine.setting.streams), version)
        await self._in_thread(model.warm_up)
        model, self._model = self._model, model
        self.telemetry.model(engine, version)
        self._watch.against(baseline_of(engine), engine.sha256)
        await self._in_thread(model.scheduler.close)
        del model  # its session with it; what the C library keeps of it is some 40 MB each time
        await self._in_thread(give_back_memory)

    def close(self) -> None:
        """End all threads. Pictures under way are cancelled."""
        self._model.scheduler.close(cancel=True)
        self._codecs.shutdown(cancel_futures=True)

    def check(self, encoded: bytes, wanted: Wanted) -> Header:
        """What the header says of a picture.

        Raises:
            PictureTooLargeError: more bytes or pixels than the limits allow.
            PictureError: not a picture that is accepted.
        """
        header = read_header(encoded, self.limits, first_frame=wanted.first_frame)
        format = wanted.format or header.format
        if _weight(header, format) > self.limits.megapixels:
            raise PictureTooLargeError(
                f"{header.width}x{header.height} = {header.megapixels:.1f} megapixels are too many "
                f"for an answer in {format}, of which {self.limits.megapixels / _HEAVY:g} can be "
                "written: ask for another format with Accept, as image/jpeg"
            )
        return header

    def is_small(self, megapixels: float) -> bool:
        """Whether a picture has its place in the memory that is kept for small ones."""
        return megapixels <= _SMALL * self.limits.megapixels

    def seconds_for(self, megapixels: float) -> float:
        """About how long the tiles of so many megapixels take, behind all that is taken on."""
        return self._seconds(self._taken_on.held + megapixels)

    def tiles_of(self, width: int, height: int) -> int:
        """Tiles that the model cuts a picture of so many pixels into."""
        return len(self._model.plan(width, height))

    @contextmanager
    def hold_body(self, size: int) -> Iterator[None]:
        """Hold so many bytes of a request in memory for as long as the block lasts.

        Raises:
            BusyError: with them, it would be more than all requests may hold.
        """
        if not self.bodies.take(size):
            raise BusyError(
                "too many requests are being received: send it again in a moment",
                self.seconds_for(0.0),
            )
        try:
            yield
        finally:
            self.bodies.give_back(size)

    async def deblur(
        self,
        encoded: bytes,
        wanted: Wanted = Wanted(),
        *,
        on_tiles: Callable[[int, int], None] | None = None,
        deadline: float | None = None,
        patient: bool = False,
    ) -> Answer:
        """Deblur an encoded picture.

        Args:
            encoded: the file.
            wanted: how the answer shall be.
            on_tiles: called in the event loop with the tiles done and their total.
            deadline: seconds from now.
            patient: wait however much is taken on, instead of raising ``BusyError``.

        Raises:
            PictureError, PictureTooLargeError: as ``check``, or the picture is damaged.
            BusyError: too much is taken on.
            DrainingError: the server ends.
            DeadlineError: it is not ready by the deadline.
        """
        clock = _Clock(self.telemetry)
        header = await self._in_thread(self.check, encoded, wanted)
        weight = _weight(header, wanted.format or header.format)
        async with self._admitted(header.megapixels, deadline, patient, weight):
            clock.enter("decode")
            picture = await self._in_thread(
                read_picture, encoded, self.limits, None, wanted.first_frame
            )
            if header.megapixels > _LARGE:
                await self._in_thread(give_back_memory)
            clock.enter("tiles")
            model = self._model  # another one may take over before the picture is through
            plan = model.plan(picture.rgb.shape[1], picture.rgb.shape[0])
            sharp = await self._sharp(model, picture.rgb, plan, on_tiles)
            await self._in_thread(self._watch.compare, picture.rgb, sharp)
            picture = picture.with_rgb(sharp)
            del sharp  # the picture holds it, and lets it go before the memory is given back
            clock.enter("encode")
            format = wanted.format or picture.format
            content = await self._in_thread(
                encode_picture, picture, format, wanted.quality, wanted.keep_metadata
            )
        if header.megapixels > _LARGE:
            del picture
            await self._in_thread(give_back_memory)
        timing = clock.stop()
        self.telemetry.megapixels.inc(header.megapixels)
        headers = {
            "X-Deblur-Model": model.engine.sha256,
            "X-Deblur-Version": model.version,
            "X-Deblur-Tiles": str(len(plan)),
            "X-Deblur-Plan": f"tile={plan.tile}; overlap={plan.overlap}",
            "X-Deblur-Seconds": f"{sum(timing.values()):.3f}",
            "Server-Timing": ", ".join(f"{k};dur={1000 * v:.1f}" for k, v in timing.items()),
        }
        return Answer(content, FORMATS[format], headers)

    async def deblur_pixels(
        self, pixels: np.ndarray, *, deadline: float | None = None
    ) -> np.ndarray:
        """``[H, W, 3]`` uint8 to the same.

        Raises:
            PictureTooLargeError: more pixels than the limit allows.
            BusyError, DrainingError, DeadlineError: as ``deblur``.
        """
        height, width = pixels.shape[:2]
        megapixels = height * width / 1e6
        if megapixels > self.limits.megapixels:
            raise PictureTooLargeError(
                f"{width}x{height} = {megapixels:.1f} megapixels, the limit is "
                f"{self.limits.megapixels:g}: send a smaller picture or raise the limit"
            )
        async with self._admitted(megapixels, deadline):
            with self.telemetry.stage("tiles"):
                sharp = await self._sharp(self._model, pixels, self._model.plan(width, height))
            await self._in_thread(self._watch.compare, pixels, sharp)
        self.telemetry.megapixels.inc(megapixels)
        return sharp

    @asynccontextmanager
    async def _admitted(
        self,
        megapixels: float,
        deadline: float | None,
        patient: bool = False,
        weight: float | None = None,
    ) -> AsyncIterator[None]:
        """Take the picture on, and wait until there is memory for it: for so many megapixels, or
        for ``weight`` of them."""
        if self.draining:
            raise DrainingError("the server is being stopped: send the picture again in a moment")
        if deadline is not None and self._seconds(megapixels) > deadline:
            raise DeadlineError(
                f"{megapixels:.1f} megapixels take about {self._seconds(megapixels):.0f} s here, "
                f"the deadline is in {deadline:g} s: allow more time or send a smaller picture"
            )
        if patient:
            self._taken_on.take_anyway(megapixels)
        elif not self._taken_on.take(megapixels):
            surplus = self._taken_on.held + megapixels - self._taken_on.limit
            raise BusyError(
                f"{self._taken_on.held:.1f} megapixels are being worked on, more than "
                f"{self._taken_on.limit:g} with this picture: send it again later",
                self._seconds(surplus),
            )
        weight = megapixels if weight is None else weight
        gate = self._small if self.is_small(weight) else self._large
        try:
            if not patient:
                spend(megapixels)
            async with asyncio.timeout(deadline), gate.room_for(weight):
                yield
        except TimeoutError:
            raise DeadlineError(
                f"the picture was not ready within {deadline:g} s: allow more time, or send it "
                "when less is going on"
            ) from None
        finally:
            self._taken_on.give_back(megapixels)

    async def _sharp(
        self,
        model: "_Model",
        pixels: np.ndarray,
        plan: TilePlan,
        on_tiles: Callable[[int, int], None] | None = None,
    ) -> np.ndarray:
        loop = asyncio.get_running_loop()

        def run(tile: np.ndarray) -> np.ndarray:
            with self.telemetry.tile_seconds.time():
                return model.engine.run_tile(tile)

        def on_tile(done: int, total: int) -> None:
            if on_tiles is not None:
                loop.call_soon_threadsafe(on_tiles, done, total)

        work = model.scheduler.submit(pixels, plan, run, on_tile)
        # Cancelling what is awaited here cancels the picture's future, and so its tiles.
        return await asyncio.wrap_future(work.result)

    async def _in_thread(self, work: Callable[..., Result], *arguments: object) -> Result:
        """Run in a thread. Cancelled, it still waits for the thread, which holds memory."""
        future = asyncio.get_running_loop().run_in_executor(self._codecs, work, *arguments)
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            await asyncio.wait([future])
            raise

    def _seconds(self, megapixels: float) -> float:
        """Time of the tiles of so many megapixels, with nothing else going on."""
        setting = self.engine.setting
        tiles = megapixels * 1e6 / (setting.tile - setting.overlap) ** 2
        return tiles * self._model.scheduler.tile_seconds

    def _measure(self) -> None:
        gauge = self.telemetry.gauge
        gauge(
            "deblur_taken_on_megapixels",
            "Megapixels taken on and not answered.",
            lambda: self._taken_on.held,
        )
        gauge(
            "deblur_tiles_left",
            "Tiles of decoded pictures that are not computed.",
            lambda: self._model.scheduler.tiles_left,
        )
        gauge(
            "deblur_seconds_per_megapixel",
            "Measured time of a megapixel with nothing else going on.",
            lambda: self._seconds(1.0),
        )


@dataclass(frozen=True)
class _Model:
    """A model, and the threads that compute its tiles."""

    engine: Engine
    scheduler: Scheduler
    version: str

    def plan(self, width: int, height: int) -> TilePlan:
        """Where the tiles of a picture of so many pixels lie."""
        setting = self.engine.setting
        return TilePlan(height, width, setting.tile, setting.overlap)

    def warm_up(self) -> None:
        self.engine.warm_up()
        tile = self.engine.setting.tile
        pixels = np.zeros((tile, 2 * tile, 3), dtype=np.uint8)
        self.scheduler.submit(
            pixels, self.plan(2 * tile, tile), self.engine.run_tile
        ).result.result()


def _weight(header: Header, format: str) -> float:
    """Megapixels that a picture counts for in memory, if it is answered in ``format``."""
    return header.megapixels * (_HEAVY if format in _HEAVY_FORMATS else 1)


class _Clock:
    """Seconds of one picture in each stage: waiting first."""

    def __init__(self, telemetry: Telemetry) -> None:
        self._telemetry = telemetry
        self._seconds: dict[str, float] = {}
        self._stage, self._since = "wait", perf_counter()

    def enter(self, stage: str) -> None:
        now = perf_counter()
        self._seconds[self._stage] = now - self._since
        self._telemetry.stage_took(self._stage, now - self._since)
        self._stage, self._since = stage, now

    def stop(self) -> dict[str, float]:
        self.enter("")
        return self._seconds
