"""An exported network, run by onnxruntime on the CPU over the tiles of a picture."""

from pathlib import Path

import numpy as np
import onnxruntime

from deblur.contract import INPUT, OUTPUT, ModelContract
from deblur.cpus import usable_cpus
from deblur.digests import file_sha256
from deblur.errors import ModelFileError
from deblur.images import Picture, to_float, to_uint8
from deblur.tiling import apply_tiled


class Engine:
    """Deblurs pictures of any size with one ONNX file. May be called from several threads.

    Args:
        model: a file written by ``deblur export``.
        threads: threads of the network; by default what affinity and cgroup allow.

    Attributes:
        contract: what the file says about itself.
        sha256: digest of the file.

    Raises:
        ModelFileError: no such file, not ONNX, or without the serving contract.
    """

    def __init__(self, model: Path, threads: int | None = None) -> None:
        if not model.is_file():
            raise ModelFileError(
                f"there is no model file {model}: export one with  deblur export, or name a "
                "registered one as models:/deblur-unet@candidate"
            )
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or usable_cpus()
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(
                str(model), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # onnxruntime raises a dozen classes of its own here
            raise ModelFileError(
                f"{model} is not a readable ONNX file ({str(error).splitlines()[0]}): expected one "
                "written by  deblur export"
            ) from None
        metadata = self._session.get_modelmeta().custom_metadata_map
        self.contract = ModelContract.from_metadata(metadata, str(model))
        self.sha256 = file_sha256(model)

    def deblur(self, picture: Picture) -> Picture:
        """The same picture with sharper colours; alpha, profile and format stay as they are."""
        return picture.with_rgb(to_uint8(self.predict(to_float(picture.rgb))))

    def predict(self, planes: np.ndarray) -> np.ndarray:
        """``[1, 3, H, W]`` float32 in [-1, 1] to the same, tile by tile, not clamped."""
        return apply_tiled(planes, self._run, self.contract.tile, self.contract.overlap)

    def warm_up(self) -> None:
        """Run one tile, so that the first request does not pay for first allocations."""
        tile = self.contract.tile
        self._run(np.zeros((1, 3, tile, tile), dtype=np.float32))

    def _run(self, tiles: np.ndarray) -> np.ndarray:
        return self._session.run([OUTPUT], {INPUT: np.ascontiguousarray(tiles)})[0]
