"""Errors that are meant to be read by a person.

Every message says what was found, what was expected and what to do about it.
The command line prints the message alone and exits with 2; the server answers
with the status that the class names.
"""

import signal


class DeblurError(Exception):
    """Base of every error that the user can mend. ``status`` is the HTTP answer it maps to."""

    status = 400


class ConfigError(DeblurError):
    """A configuration key is unknown or a value is out of range."""


class DataError(DeblurError):
    """A data set is missing, incomplete or damaged."""


class PictureError(DeblurError):
    """Bytes that should be a picture are not, or not one that is accepted."""

    status = 415


class PictureTooLargeError(PictureError):
    """A picture exceeds the limits on bytes or pixels, told from its header before decoding."""

    status = 413


class CheckpointError(DeblurError):
    """A checkpoint is damaged, of another architecture, or belongs to another run."""


class ModelFileError(DeblurError):
    """An ONNX file cannot be served: unreadable, or without the contract metadata."""


class SetupError(DeblurError):
    """Something outside the program is missing or taken: a package, a port, a store."""


class StoppedError(Exception):
    """A signal asked a piece of work to end, and it ended where it can go on from later.

    Not a ``DeblurError``: nothing is to be mended. ``signum`` is the signal.
    """

    def __init__(self, signum: int, message: str) -> None:
        super().__init__(message)
        self.signum = signum

    @property
    def exit_code(self) -> int:
        """As shells say it of a process ended by a signal: 130 for Ctrl-C, else SIGTERM's 143."""
        return 130 if self.signum == signal.SIGINT else 143
