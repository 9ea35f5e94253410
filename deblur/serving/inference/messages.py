"""The JSON objects of the protocol's HTTP interface."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from deblur.contract import INPUT, OUTPUT

#: Two pixels.
_EXAMPLE: dict[str, Any] = {"name": INPUT, "shape": [1, 1, 2, 3], "datatype": "UINT8"}

Size = Annotated[int, Field(ge=-(2**63), lt=2**63)]
Parameters = dict[str, bool | int | float | str]


class _Message(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True, allow_inf_nan=False)


class InputTensor(_Message):
    """An input: its description, and its values here or after the JSON."""

    name: str
    shape: Annotated[list[Size], Field(description="[batch, height, width, 3]")]
    datatype: Annotated[str, Field(description="UINT8")]
    parameters: Annotated[
        Parameters,
        Field(description="binary_data_size: bytes of it that follow the JSON"),
    ] = Field(default_factory=dict)
    data: Annotated[
        list[Any] | None,
        Field(description="its values, flat in row-major order or nested as the shape"),
    ] = None


class RequestedOutput(_Message):
    """An output that is asked for by name."""

    name: str
    parameters: Annotated[
        Parameters, Field(description="binary_data: whether its values follow the JSON")
    ] = Field(default_factory=dict)


class InferRequest(_Message):
    """What an inference takes."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"id": "1", "inputs": [{**_EXAMPLE, "data": [9, 8, 7, 200, 100, 0]}]}]
        }
    )

    id: str | None = None
    parameters: Annotated[
        Parameters,
        Field(
            description="binary_data_output: whether all values follow the JSON; "
            "timeout: microseconds"
        ),
    ] = Field(default_factory=dict)
    inputs: list[InputTensor]
    outputs: list[RequestedOutput] = Field(default_factory=list)


class OutputTensor(_Message):
    """An output: its description, and its values here or after the JSON."""

    name: str
    datatype: str
    shape: list[int]
    parameters: Parameters = Field(default_factory=dict)
    data: list[int] | None = None


class InferResponse(_Message):
    """What an inference answers."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "model_name": "deblur",
                    "model_version": "1",
                    "id": "1",
                    "outputs": [{**_EXAMPLE, "name": OUTPUT, "data": [9, 8, 7, 201, 99, 0]}],
                }
            ]
        }
    )

    model_name: str
    model_version: str
    id: str | None = None
    parameters: Parameters = Field(default_factory=dict)
    outputs: list[OutputTensor]


class TensorMetadata(_Message):
    """Name, datatype and shape of a tensor; -1 is any size."""

    name: str
    datatype: str
    shape: list[int]


class ServerMetadata(_Message):
    """What the server is."""

    name: str
    version: str
    extensions: list[str]


class ModelMetadata(_Message):
    """What the model takes and gives."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]


class Live(_Message):
    """The server is alive."""

    live: bool = True


class Ready(_Message):
    """The server takes on pictures."""

    ready: bool = True


class ModelReady(_Message):
    """The model takes on pictures."""

    name: str
    ready: bool = True


class InferenceProblem(_Message):
    """What was found, what was expected and what to do."""

    error: str
