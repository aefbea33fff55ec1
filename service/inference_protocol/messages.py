"""The protocol's gRPC messages, as protobuf classes made when this module is imported.

The table below is the wire contract of ``inference.GRPCInferenceService``
(https://github.com/kserve/open-inference-protocol, with Triton's repository
calls): a field's number is its place. Classes made from it work with any protobuf release, which
generated code does not. A test holds the table against the descriptors of a public client.
"""

from __future__ import annotations

import re
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

PACKAGE = "inference"
SERVICE = f"{PACKAGE}.GRPCInferenceService"

_TENSOR = "name:string datatype:string shape:int64*"
_PARAMETERS = "parameters:{InferParameter}"
_REPOSITORY_CALL = "repository_name:string model_name:string parameters:{ModelRepositoryParameter}"

FIELDS = {
    "ServerLiveRequest": "",
    "ServerLiveResponse": "live:bool",
    "ServerReadyRequest": "",
    "ServerReadyResponse": "ready:bool",
    "ModelReadyRequest": "name:string version:string",
    "ModelReadyResponse": "ready:bool",
    "ServerMetadataRequest": "",
    "ServerMetadataResponse": "name:string version:string extensions:string*",
    "ModelMetadataRequest": "name:string version:string",
    "ModelMetadataResponse": (
        "name:string versions:string* platform:string "
        "inputs:ModelMetadataResponse.TensorMetadata* "
        "outputs:ModelMetadataResponse.TensorMetadata*"
    ),
    "ModelMetadataResponse.TensorMetadata": _TENSOR,
    "InferParameter": (
        "bool_param|bool int64_param|int64 string_param|string double_param|double "
        "uint64_param|uint64"
    ),
    "InferTensorContents": (
        "bool_contents:bool* int_contents:int32* int64_contents:int64* uint_contents:uint32* "
        "uint64_contents:uint64* fp32_contents:float* fp64_contents:double* bytes_contents:bytes*"
    ),
    "ModelInferRequest": (
        f"model_name:string model_version:string id:string {_PARAMETERS} "
        "inputs:ModelInferRequest.InferInputTensor* "
        "outputs:ModelInferRequest.InferRequestedOutputTensor* raw_input_contents:bytes*"
    ),
    "ModelInferRequest.InferInputTensor": f"{_TENSOR} {_PARAMETERS} contents:InferTensorContents",
    "ModelInferRequest.InferRequestedOutputTensor": f"name:string {_PARAMETERS}",
    "ModelInferResponse": (
        f"model_name:string model_version:string id:string {_PARAMETERS} "
        "outputs:ModelInferResponse.InferOutputTensor* raw_output_contents:bytes*"
    ),
    "ModelInferResponse.InferOutputTensor": f"{_TENSOR} {_PARAMETERS} contents:InferTensorContents",
    "ModelRepositoryParameter": (
        "bool_param|bool int64_param|int64 string_param|string bytes_param|bytes"
    ),
    "RepositoryIndexRequest": "repository_name:string ready:bool",
    "RepositoryIndexResponse": "models:RepositoryIndexResponse.ModelIndex*",
    "RepositoryIndexResponse.ModelIndex": "name:string version:string state:string reason:string",
    "RepositoryModelLoadRequest": _REPOSITORY_CALL,
    "RepositoryModelLoadResponse": "",
    "RepositoryModelUnloadRequest": _REPOSITORY_CALL,
    "RepositoryModelUnloadResponse": "",
}
"""Message -> fields: ``name:type``, ``*`` repeated, ``{}`` a map from strings, ``|`` one of all."""

ONE_OF = "parameter_choice"

_FIELD = re.compile(r"(\w+)([:|])(\{)?([\w.]+)\}?(\*)?")
_Field = descriptor_pb2.FieldDescriptorProto


def _make_messages() -> dict[str, Any]:
    file = descriptor_pb2.FileDescriptorProto(
        name="isoserve/inference.proto", package=PACKAGE, syntax="proto3"
    )
    made: dict[str, Any] = {}
    for name, fields in FIELDS.items():
        outer, _, inner = name.partition(".")
        message = made[outer].nested_type.add(name=inner) if inner else file.message_type.add()
        message.name = inner or outer
        made[name] = message
        for number, (field, kind, is_map, of, repeated) in enumerate(_FIELD.findall(fields), 1):
            added = message.field.add(name=field, number=number)
            added.label = _Field.LABEL_REPEATED if repeated or is_map else _Field.LABEL_OPTIONAL
            if kind == "|":
                added.oneof_index = 0
            _set_type(added, _map_entry(message, name, field, of) if is_map else of)
        if "|" in fields:
            message.oneof_decl.add(name=ONE_OF)
    # A pool of its own: the client libraries register messages of the same names.
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{PACKAGE}.{name}"))
        for name in FIELDS
    }


def _map_entry(message: Any, name: str, field: str, of: str) -> str:
    entry = message.nested_type.add(name=f"{field.capitalize()}Entry")
    entry.options.map_entry = True
    for number, (each, kind) in enumerate((("key", "string"), ("value", of)), 1):
        added = entry.field.add(name=each, number=number, label=_Field.LABEL_OPTIONAL)
        _set_type(added, kind)
    return f"{name}.{entry.name}"


def _set_type(field: Any, of: str) -> None:
    if of[0].isupper():
        field.type, field.type_name = _Field.TYPE_MESSAGE, f".{PACKAGE}.{of}"
    else:
        field.type = getattr(_Field, f"TYPE_{of.upper()}")


MESSAGES = _make_messages()
"""Message name -> its class."""
