"""The model that comes with the package; ``CARD.md`` beside it says what it can do and where it
comes from."""

from pathlib import Path

#: Its address, where others name a file or a registered model.
DEFAULT = "default"
DEFAULT_MODEL = Path(__file__).with_name("model.onnx")
