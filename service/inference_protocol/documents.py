"""The protocol's JSON documents, for the OpenAPI page; the hot route reads and writes without them.

Objects are open: the protocol lets clients add fields and parameters a server does not know.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from isoserve.models.card import INPUT_NAME, OpenShare

Size = Annotated[int, Field(ge=0)]


class _Document(BaseModel):
    model_config = ConfigDict(protected_namespaces=())


class ServerMetadata(_Document):
    """Who answers."""

    name: str = Field(examples=["isoserve"])
    version: str
    extensions: list[str] = Field(examples=[["binary_tensor_data"]])


class TensorMetadata(_Document):
    """A tensor the model takes or gives."""

    name: str
    datatype: str
    shape: list[int] = Field(description="-1 is the batch.")


class ModelMetadata(_Document):
    """What the model takes and gives. ``images`` may also be BYTES [N], encoded image files."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]


class ModelConfig(_Document):
    """The part of Triton's model configuration that its clients read."""

    name: str
    platform: str
    backend: str
    max_batch_size: int
    input: list[dict[str, Any]]
    output: list[dict[str, Any]]


class Live(_Document):
    """The process answers."""

    live: bool


class Ready(_Document):
    """A model is loaded."""

    ready: bool


class ModelReady(_Document):
    """This model answers."""

    name: str
    ready: Literal[True]


class InputParameters(_Document):
    """``content_type``: base64 says that the strings of a BYTES tensor are base64."""

    binary_data_size: Size | None = Field(
        None, description="Bytes of this tensor after the JSON; then there is no 'data'."
    )
    content_type: str | None = Field(None, examples=["base64"])


class InputTensor(_Document):
    """UINT8 [N, H, W, 3], RGB at the model's size, or BYTES [N], encoded image files."""

    name: Literal["images"] = Field(examples=[INPUT_NAME])
    datatype: Literal["UINT8", "BYTES"]
    shape: list[Size] = Field(examples=[[1, 32, 32, 3]])
    parameters: InputParameters | None = None
    data: list[Any] | None = Field(None, description="Flat in row-major order, or nested.")


class OutputParameters(_Document):
    """How an output is to be sent."""

    binary_data: bool = False


class RequestedOutput(_Document):
    """One output; all of them are sent when none is asked for."""

    name: str = Field(examples=["label"])
    parameters: OutputParameters | None = None


class RequestParameters(_Document):
    """``alpha``: out-of-distribution where p_value is at most this."""

    alpha: OpenShare | None = None
    binary_data_output: bool = Field(False, description="Send outputs as binary data.")


class InferRequest(_Document):
    """Images to classify."""

    id: str | None = Field(None, description="Comes back in the answer.")
    parameters: RequestParameters | None = None
    inputs: list[InputTensor] = Field(min_length=1, max_length=1)
    outputs: list[RequestedOutput] | None = None


class BinarySize(_Document):
    """Where an output's data is when it is not in the JSON."""

    binary_data_size: Size


class OutputTensor(_Document):
    """One output, in row-major order."""

    name: str
    datatype: Literal["FP32", "BOOL", "BYTES"]
    shape: list[Size]
    parameters: BinarySize | None = None
    data: list[Any] | None = None


class InferAnswer(_Document):
    """The outputs asked for."""

    model_name: str
    model_version: str
    id: str | None = None
    outputs: list[OutputTensor]


class IndexRequest(_Document):
    """Which versions to list."""

    ready: bool = Field(False, description="Only those that answer.")


class IndexEntry(_Document):
    """A version and its state."""

    name: str
    version: str
    state: Literal["READY", "UNAVAILABLE"]
    reason: str


class ManagementRequest(_Document):
    """Nothing has to be said; Triton's ``config`` and ``file:`` parameters are refused."""

    parameters: dict[str, Any] | None = None


class Done(_Document):
    """An empty object: it worked."""


class ErrorDocument(_Document):
    """What was wrong."""

    error: str
