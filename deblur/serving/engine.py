"""An exported network, run by onnxruntime on the CPU over the tiles of a picture."""

import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from queue import SimpleQueue

import numpy as np
import onnxruntime

from deblur.contract import INPUT, OUTPUT, ModelContract
from deblur.cpus import usable_cpus
from deblur.digests import file_sha256
from deblur.errors import DeblurError, ModelFileError, SetupError
from deblur.images import Picture, to_float, to_uint8
from deblur.serving.openvino import first_line, use_openvino
from deblur.serving.setting import Setting, int8_file, read_setting, setting_file
from deblur.tiling import apply_tiled

log = logging.getLogger(__name__)


class Engine:
    """Deblurs pictures of any size with one ONNX file. May be called from several threads.

    Args:
        model: a file written by ``deblur export`` or ``deblur tune``.
        threads: threads of the network in all; by default the setting's, or what affinity and
            cgroup allow.
        setting: how it is run. By default what lies beside the file (``model.serving.json``); if
            there is none, fp32 with the contract's tiles. A setting that lies beside the file but
            cannot be used on this machine is left aside with a warning; one that is given is an
            error.

    Attributes:
        contract: what the file says about itself.
        setting: how it is run.
        sha256: digest of the file that is run: of ``model``, or of ``model.int8.onnx`` beside it.

    Raises:
        ModelFileError: no such file, not ONNX, or without the serving contract; no quantised file
            where int8 is asked for.
        SetupError: the setting given cannot be used on this machine.
    """

    def __init__(
        self, model: Path, threads: int | None = None, setting: Setting | None = None
    ) -> None:
        contract = read_contract(model)
        plain = Setting.of(contract)
        beside = read_setting(model) if setting is None else None
        try:
            self._open(model, contract, setting or beside or plain, threads)
        except DeblurError as error:
            if beside is None:
                raise
            log.warning(
                "the setting %s cannot be used: %s. Served in %s with tiles of %d and overlap %d "
                "on onnxruntime's own CPU provider: the pictures are as good, but take the time "
                "that tuning had saved; run  deblur tune  on this machine",
                setting_file(model), error, plain.precision, plain.tile, plain.overlap,
            )  # fmt: skip
            self._open(model, contract, plain, threads)

    @property
    def rounded(self) -> bool:
        """Whether tiles come in steps of about a level: from pixels, or computed in 8 bit."""
        return self.contract.form == "uint8" or self.contract.precision == "int8"

    def deblur(self, picture: Picture) -> Picture:
        """The same picture with sharper colours; alpha, profile and format stay as they are."""
        return picture.with_rgb(to_uint8(self.predict(to_float(picture.rgb))))

    def predict(self, planes: np.ndarray) -> np.ndarray:
        """``[1, 3, H, W]`` float32 in [-1, 1] to the same, tile by tile, not clamped.

        A file that takes and gives 8-bit pixels rounds and clamps each tile.
        """
        tile, overlap = self.setting.tile, self.setting.overlap
        return apply_tiled(planes, self.run_tile, tile, overlap, side_by_side=self._side_by_side)

    def run_tile(self, tiles: np.ndarray) -> np.ndarray:
        """``[1, 3, tile, tile]`` float32 in [-1, 1] to the same, not clamped. Waits for a session
        where as many threads as there are streams are in here."""
        pixels = self.contract.form == "uint8"
        feed = to_uint8(tiles)[None] if pixels else np.ascontiguousarray(tiles)
        session = self._sessions.get()
        try:
            result = session.run([OUTPUT], {INPUT: feed})[0]
        finally:
            self._sessions.put(session)
        return to_float(result[0]) if pixels else result

    def warm_up(self) -> None:
        """Run one tile in every session, so that the first request does not pay for first
        allocations."""
        tile = self.setting.tile
        tiles = [np.zeros((1, 3, tile, tile), dtype=np.float32)] * self.setting.streams
        for _ in self._side_by_side(self.run_tile, tiles):
            pass

    def _open(
        self, model: Path, contract: ModelContract, setting: Setting, threads: int | None
    ) -> None:
        file, self.contract = _file_of(model, contract, setting)
        self.setting = setting
        each = _threads_of_each(setting, threads)
        # A session is taken out while it runs: the threads of two runs would fight for the cores.
        self._sessions: SimpleQueue[onnxruntime.InferenceSession] = SimpleQueue()
        for _ in range(setting.streams):
            self._sessions.put(_session(file, setting, each))
        self._pool = ThreadPoolExecutor(setting.streams) if setting.streams > 1 else None
        self.sha256 = file_sha256(file)

    def _side_by_side(
        self, run: Callable[[np.ndarray], np.ndarray], tiles: Iterable[np.ndarray]
    ) -> Iterator[np.ndarray]:
        """As ``map``, in as many threads as there are sessions. The results come in order, so that
        they are added up in the same order however many sessions there are."""
        if self._pool is None:
            yield from map(run, tiles)
            return
        running: deque[Future[np.ndarray]] = deque()
        for tile in tiles:
            running.append(self._pool.submit(run, tile))
            if len(running) > 2 * self.setting.streams:
                yield running.popleft().result()
        while running:
            yield running.popleft().result()


def read_contract(model: Path) -> ModelContract:
    """What a file says about itself.

    Raises:
        ModelFileError: there is none, it is not ONNX, or without the serving contract.
    """
    if not model.is_file():
        raise ModelFileError(
            f"there is no model file {model}: export one with  deblur export, or name a registered "
            "one as models:/deblur-unet@candidate"
        )
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    # Only the metadata is wanted: nothing is optimised for it.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        session = onnxruntime.InferenceSession(
            str(model), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # onnxruntime raises a dozen classes of its own here
        raise ModelFileError(
            f"{model} is not a readable ONNX file ({first_line(error)}): expected one written by "
            " deblur export"
        ) from None
    return ModelContract.from_metadata(session.get_modelmeta().custom_metadata_map, str(model))


def _file_of(model: Path, contract: ModelContract, setting: Setting) -> tuple[Path, ModelContract]:
    """The file that the setting runs, and its contract."""
    if setting.precision != "int8":
        if contract.precision == "int8":
            raise ModelFileError(
                f"{model} is quantised to int8 and cannot be run in {setting.precision}: ask for "
                "int8, or name the file that it was made from"
            )
        return model, contract
    if contract.precision == "int8":
        return model, contract
    quantised = int8_file(model)
    if not quantised.is_file():
        raise ModelFileError(
            f"int8 is asked for, but there is no {quantised}: make it with  deblur tune"
        )
    its = read_contract(quantised)
    if replace(its, precision=contract.precision) != contract:
        raise ModelFileError(
            f"{quantised} was made from another model than {model}: make it again with  deblur tune"
        )
    return quantised, its


def _threads_of_each(setting: Setting, threads: int | None) -> int:
    """Threads of one session. A setting may come from a machine with more CPUs than this one."""
    usable = usable_cpus()
    if threads is not None:
        return max(1, threads // setting.streams)
    return min(usable, setting.threads or max(1, usable // setting.streams))


def _session(file: Path, setting: Setting, threads: int) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    # Every tile has the same shape. Known beforehand, it lets OpenVINO choose its kernels; with
    # unknown shapes it would choose them anew for each.
    for name, size in (("batch", 1), ("height", setting.tile), ("width", setting.tile)):
        options.add_free_dimension_override_by_name(name, size)
    try:
        if setting.provider == "openvino":
            use_openvino(options, setting.precision, threads, setting.streams)
            return onnxruntime.InferenceSession(str(file), options)
        if setting.precision == "bf16":
            raise SetupError(
                "onnxruntime's own CPU provider computes no bf16: ask for the provider openvino"
            )
        return onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    except DeblurError:
        raise
    except Exception as error:  # what a provider cannot do, it says in classes of its own
        raise SetupError(
            f"{setting.provider} cannot run {file} in {setting.precision} with tiles of "
            f"{setting.tile} ({first_line(error)}): choose another setting with  deblur tune"
        ) from None
