"""How the folders of a data set are arranged: the published layouts, and a way to declare others.

    ROOT/{train,val,test}/SCENE/{blur,blur_gamma,sharp}/000001.png      GOPRO_Large

A layout is a small mapping: for each split, where its blurred and its sharp pictures lie.
"""

import re
import tomllib
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from deblur.data.storage import Location, reachable
from deblur.errors import DataError
from deblur.settings import readable

#: The two blurred folders of GOPRO_Large: ``blur`` is the plain average of pixel values,
#: ``blur_gamma`` the average in linear light.
Averaging = Literal["blur", "blur_gamma"]
SPLITS = ("train", "val", "test")
SHARP = "sharp"
#: The split of a layout that does not divide its pictures.
UNDIVIDED = "all"
#: Inside a data set's folder: declares a layout of its own.
LAYOUT_FILE = "layout.toml"
#: Share of the scenes that goes into each of ``val`` and ``test`` of an undivided data set.
HOLD_OUT = 0.1
_PLACE = re.compile(r"\{(\w+)\}")


class SplitLayout(BaseModel):
    """Where the pictures of one split lie: paths below the data set's folder, with ``{scene}``,
    ``{name}`` and ``{subset}`` for what varies. Pictures pair up by equal scene and name; without
    a ``{scene}`` each picture is a scene of its own.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    blur: str = Field(description="for example train/{scene}/{subset}/{name}")
    sharp: str = Field(description="for example train/{scene}/sharp/{name}")
    only: str | None = Field(
        default=None, description="a text file that names the pictures of this split"
    )
    scene_prefix: str = Field(
        default="", description="put before scenes, where splits use equal numbers"
    )

    @field_validator("blur", "sharp")
    @classmethod
    def _places(cls, path: str) -> str:
        places = _PLACE.findall(path)
        if unknown := set(places) - {"scene", "name", "subset"}:
            raise ValueError(f"unknown place {{{unknown.pop()}}}: known are scene, name, subset")
        if places.count("name") != 1 or places.count("scene") > 1:
            raise ValueError("expected one place {name} and at most one {scene}")
        return path

    @property
    def has_subset(self) -> bool:
        """Whether there is a choice of blurred folders."""
        return "{subset}" in self.blur


class Layout(BaseModel):
    """Where the pictures of a data set lie, by split: train, val and test, or ``all`` alone.

    Then ``hold_out`` is the share of scenes that goes into each of ``val`` and ``test``, chosen by
    the scene's name, so that a picture that is added later moves no other.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    splits: dict[str, SplitLayout]
    root: str | None = Field(
        default=None, description="the data set's folder, if not the file's own"
    )
    hold_out: float = Field(default=HOLD_OUT, ge=0.0, lt=0.5)

    @field_validator("splits")
    @classmethod
    def _known(cls, splits: dict[str, SplitLayout]) -> dict[str, SplitLayout]:
        if set(splits) != {UNDIVIDED} and (not splits or set(splits) - set(SPLITS)):
            raise ValueError(f"expected {', '.join(SPLITS)}, or '{UNDIVIDED}' alone")
        return {split: splits[split] for split in (*SPLITS, UNDIVIDED) if split in splits}


def read_layout(source: Location) -> Layout:
    """The layout that a ``.toml`` file declares.

    Raises:
        DataError: there is no such file, or it is not a valid layout.
    """
    try:
        with reachable(source):
            return Layout(**tomllib.loads(source.read_bytes().decode()))
    except FileNotFoundError:
        raise DataError(f"there is no layout file {source}: see docs/data.md for one") from None
    except ValidationError as error:
        said = readable(error, Layout.model_fields, f"layout {source}")
        raise DataError(f"{said} (see docs/data.md)") from None
    except (ValueError, OSError) as error:
        raise DataError(f"{source} cannot be read as a layout: {error}") from None


def _by_split(blur: str, sharp: str) -> Layout:
    return Layout(
        splits={
            split: SplitLayout(blur=f"{split}/{blur}", sharp=f"{split}/{sharp}") for split in SPLITS
        }
    )


def _undivided(blur: str, sharp: str) -> Layout:
    return Layout(splits={UNDIVIDED: SplitLayout(blur=blur, sharp=sharp)})


def _realblur(kind: str) -> Layout:
    folder = f"RealBlur-{kind}_ECC_IMCORR_centroid_itensity_ref"  # spelt so by its authors
    return Layout(
        splits={
            split: SplitLayout(
                blur=f"{folder}/{{scene}}/blur/blur_{{name}}",
                sharp=f"{folder}/{{scene}}/gt/gt_{{name}}",
                only=f"RealBlur_{kind}_{split}_list.txt",
            )
            for split in ("train", "test")
        }
    )


_SCENES = ("{scene}/{subset}/{name}", "{scene}/sharp/{name}")
_FOLDERS = ("{subset}/{name}", "sharp/{name}")

#: The layouts that are recognised, in the order in which they are tried.
LAYOUTS: dict[str, Layout] = {
    "gopro": _by_split(*_SCENES),
    "folders by split": _by_split(*_FOLDERS),
    "folders": _undivided(*_FOLDERS),
    "scenes": _undivided(*_SCENES),
    # Its public validation scenes are what the field reports on.
    "reds": Layout(
        splits={
            split: SplitLayout(
                blur=f"{theirs}/{theirs}_blur/{{scene}}/{{name}}",
                sharp=f"{theirs}/{theirs}_sharp/{{scene}}/{{name}}",
                scene_prefix=f"{theirs}-",
            )
            for split, theirs in (("train", "train"), ("test", "val"))
        }
    ),
    "realblur-j": _realblur("J"),
    "realblur-r": _realblur("R"),
}
