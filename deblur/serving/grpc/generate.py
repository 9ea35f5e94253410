"""``python -m deblur.serving.grpc.generate``: the code of the .proto file, after a change of it."""

import base64
import importlib
import tempfile
import textwrap
from pathlib import Path

from deblur.atomic import whole_file
from deblur.errors import SetupError

FOLDER = Path(__file__).parent
PROTO = "open_inference.proto"

_TEXT = '''"""Written by ``python -m deblur.serving.grpc.generate``; not to be edited."""

import base64

#: The serialised ``FileDescriptorProto`` of ``{proto}``.
FILE = base64.b64decode(
    """
{lines}
"""
)
'''


def compiled() -> bytes:
    """The serialised ``FileDescriptorProto`` of the .proto file.

    Raises:
        SetupError: the compiler is not installed, or refuses the file.
    """
    try:
        protoc = importlib.import_module("grpc_tools.protoc")
    except ImportError:
        raise SetupError(
            "the compiler of .proto files is not installed: pip install 'deblur[dev]'"
        ) from None
    from google.protobuf.descriptor_pb2 import FileDescriptorSet

    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "set.pb"
        status = protoc.main(["protoc", f"-I{FOLDER}", f"--descriptor_set_out={out}", PROTO])
        if status != 0:
            raise SetupError(f"the compiler refuses {FOLDER / PROTO}: it has said above why")
        (file,) = FileDescriptorSet.FromString(out.read_bytes()).file
    return file.SerializeToString(deterministic=True)


def write() -> None:
    """Write ``descriptor.py``."""
    lines = textwrap.fill(base64.b64encode(compiled()).decode(), 96)
    with whole_file(FOLDER / "descriptor.py") as partial:
        partial.write_text(_TEXT.format(proto=PROTO, lines=lines), encoding="utf-8", newline="\n")


if __name__ == "__main__":
    write()
