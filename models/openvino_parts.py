"""A network of OpenVINO's in two parts, so that each can be computed in a precision of its own.

Rounded to bfloat16, the first layers of a network move its score the most: on the default CIFAR-10
model what comes before the second bottleneck makes three quarters of the difference. OpenVINO has
one precision for a network whole, except for its last layers.
"""

from __future__ import annotations

from typing import Any

from isoserve.models.errors import InputError

_CONVOLUTIONS = ("Convolution", "GroupConvolution")


def bottlenecks(network: Any) -> list[Any]:
    """Outputs that all that follows depends on alone, each at most half as large as those before.

    From the first convolution on, in the order of the computation.

    Args:
        network: an ``openvino.Model``.
    """
    found: list[Any] = []
    least = None
    for output in _sole_outputs(network):
        elements = _elements(output)
        if elements is None or (least is None and not _follows_a_convolution(output)):
            continue
        if least is not None and 2 * elements <= least:
            found.append(_with_bias(output))
        least = elements if least is None else min(least, elements)
    return found


def split_network(network: Any, place: int) -> tuple[Any, Any]:
    """What comes before that bottleneck, counted from 1, and what comes behind; uses it up.

    Raises:
        InputError: there are fewer.
    """
    import openvino
    from openvino import opset1

    found = bottlenecks(network)
    if place > len(found):
        raise InputError(f"the network has {len(found)} bottlenecks, not {place}")
    output = found[place - 1]
    passed = opset1.parameter(output.get_partial_shape(), output.get_element_type().to_dtype())
    for target in list(output.get_target_inputs()):
        target.replace_source_output(passed.output(0))
    results, parameters = network.get_results(), network.get_parameters()
    return openvino.Model([output], parameters), openvino.Model(results, [passed])


def _sole_outputs(network: Any) -> list[Any]:
    """Outputs of operators that at some place are all that is still needed."""
    ops = network.get_ordered_ops()
    order = {op.get_friendly_name(): place for place, op in enumerate(ops)}
    depends: set[str] = set()
    needed: dict[str, tuple[Any, int]] = {}
    found: list[Any] = []
    for place, op in enumerate(ops):
        name = op.get_friendly_name()
        sources = [each.get_source_output().get_node().get_friendly_name() for each in op.inputs()]
        if op.get_type_name() != "Parameter" and not depends.intersection(sources):
            continue  # constants are known in both parts
        depends.add(name)
        for number, output in enumerate(op.outputs()):
            users = [
                order[each.get_node().get_friendly_name()] for each in output.get_target_inputs()
            ]
            if users:
                needed[f"{name}/{number}"] = (output, max(users))
        needed = {key: each for key, each in needed.items() if each[1] > place}
        if len(needed) == 1:
            ((output, _),) = needed.values()
            if not found or found[-1] != output:
                found.append(output)
    return found


def _with_bias(output: Any) -> Any:
    """What a convolution's bias makes of its output: OpenVINO computes them as one."""
    users = [each.get_node() for each in output.get_target_inputs()]
    return users[0].output(0) if [each.get_type_name() for each in users] == ["Add"] else output


def _follows_a_convolution(output: Any) -> bool:
    node = output.get_node()
    sources = [each.get_source_output().get_node() for each in node.inputs()]
    return any(each.get_type_name() in _CONVOLUTIONS for each in (node, *sources))


def _elements(output: Any) -> int | None:
    """Of one image's; None where that is not known before it is run, or not of its own batch."""
    shape = output.get_partial_shape()
    if shape.rank.is_dynamic or len(shape) < 2 or any(each.is_dynamic for each in list(shape)[1:]):
        return None
    elements = 1
    for each in list(shape)[1:]:
        elements *= each.get_length()
    return elements
