"""PromQL over numpy: a rule's expression evaluated at every step of a simulated month at once.

Only what the project's rules use, parsed by ``promql-parser``. A vector is a dict from labels to a
float64 array [T], one value a step; NaN means that the series is not there at that step. Two things
differ from Prometheus: ``increase`` is the plain difference (steady scrapes need no extrapolation),
and a value that is NaN counts as absent. ``tests/deploy`` holds both against ``promtool``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import promql_parser as ast
from numpy.typing import NDArray

Labels = frozenset[tuple[str, str]]
Series = NDArray[np.float64]
Vector = dict[Labels, Series]

ARITHMETIC: dict[str, Callable[[Any, Any], Any]] = {
    "+": np.add,
    "-": np.subtract,
    "*": np.multiply,
    "/": np.divide,
    "^": np.power,
}
COMPARISON: dict[str, Callable[[Any, Any], Any]] = {
    ">": np.greater,
    ">=": np.greater_equal,
    "<": np.less,
    "<=": np.less_equal,
    "==": np.equal,
    "!=": np.not_equal,
}
FUNCTIONS: dict[str, Callable[[Series], Series]] = {"abs": np.abs, "ln": np.log, "sqrt": np.sqrt}


def labels(**values: str) -> Labels:
    """Labels of a series, without its name."""
    return frozenset(values.items())


class Evaluator:
    """Evaluates expressions over stored series.

    Args:
        steps: T, the number of evaluations.
        step_seconds: seconds from one to the next.
    """

    def __init__(self, steps: int, step_seconds: float) -> None:
        self.steps = steps
        self.step_seconds = step_seconds
        self.stored: dict[str, Vector] = {}

    def store(self, name: str, vector: Mapping[Labels, Series]) -> None:
        """Add series under a metric's name; the same labels again replace."""
        self.stored.setdefault(name, {}).update(vector)

    def evaluate(self, expression: str) -> Vector:
        """The instant vector of an expression at every step."""
        with np.errstate(all="ignore"):
            result = self._value(ast.parse(expression))
        if isinstance(result, float):
            raise TypeError(f"a scalar, not a vector: {expression}")
        return result

    def _value(self, node: Any) -> Vector | float:
        if isinstance(node, ast.NumberLiteral):
            return float(node.val)
        if isinstance(node, ast.ParenExpr):
            return self._value(node.expr)
        if isinstance(node, ast.VectorSelector):
            return self._shifted(self._selected(node), node.offset)
        if isinstance(node, ast.AggregateExpr):
            return self._aggregated(node)
        if isinstance(node, ast.Call):
            return self._called(node)
        if isinstance(node, ast.BinaryExpr):
            return self._combined(node)
        raise NotImplementedError(f"{type(node).__name__}: {node}")

    def _vector(self, node: Any) -> Vector:
        value = self._value(node)
        if isinstance(value, float):
            raise TypeError(f"a vector is needed, not the scalar {value}")
        return value

    def _selected(self, node: Any) -> Vector:
        def fits(key: Labels) -> bool:
            have = dict(key)
            return all(_matches(m, have.get(m.name, "")) for m in node.matchers.matchers)

        found = self.stored.get(node.name, {})
        return {key: series for key, series in found.items() if fits(key)}

    def _shifted(self, vector: Vector, offset: Any) -> Vector:
        if offset is None:
            return vector
        by = round(offset.total_seconds() / self.step_seconds)
        gap = np.full(min(by, self.steps), np.nan)
        return {key: np.concatenate([gap, s[: self.steps - gap.size]]) for key, s in vector.items()}

    def _called(self, node: Any) -> Vector:
        name = node.func.name
        if name == "increase":
            return self._increase(node.args[0])
        if name == "vector":
            return {labels(): np.full(self.steps, float(node.args[0].val))}
        if name == "label_replace":
            return _relabelled(self._vector(node.args[0]), *(a.val for a in node.args[1:]))
        if name in FUNCTIONS:
            return {key: FUNCTIONS[name](s) for key, s in self._vector(node.args[0]).items()}
        raise NotImplementedError(f"function {name}")

    def _increase(self, node: Any) -> Vector:
        width = round(node.range.total_seconds() / self.step_seconds)
        result = {}
        for key, counter in self._selected(node.vector_selector).items():
            before = np.full(self.steps, counter[0])
            before[width:] = counter[: max(self.steps - width, 0)]
            result[key] = counter - before
        return result

    def _aggregated(self, node: Any) -> Vector:
        keep = _keeper(node.modifier)
        groups: dict[Labels, list[Series]] = {}
        for key, series in self._vector(node.expr).items():
            groups.setdefault(keep(key), []).append(series)
        return {key: _reduced(str(node.op), np.stack(group)) for key, group in groups.items()}

    def _combined(self, node: Any) -> Vector | float:
        left, right, op = self._value(node.lhs), self._value(node.rhs), str(node.op)
        if op in ("and", "or", "unless"):
            if isinstance(left, float) or isinstance(right, float):
                raise TypeError(f"{op} needs vectors")
            return _set_operation(op, left, right, _signature(node.modifier))
        if isinstance(left, float) and isinstance(right, float):
            return float(ARITHMETIC[op](left, right))
        if isinstance(right, float):
            assert not isinstance(left, float)
            return {key: _applied(op, s, right, s) for key, s in left.items()}
        if isinstance(left, float):
            return {key: _applied(op, left, s, s) for key, s in right.items()}
        return _matched(op, left, right, node.modifier)


def _applied(op: str, left: Any, right: Any, kept: Any) -> Series:
    if op in ARITHMETIC:
        result: Series = ARITHMETIC[op](left, right)
        return result
    return np.where(COMPARISON[op](left, right), kept, np.nan)


def _matched(op: str, left: Vector, right: Vector, modifier: Any) -> Vector:
    """One-to-one, or many on the left to one on the right."""
    signature = _signature(modifier)
    many = modifier is not None and "ManyToOne" in str(modifier.card)
    include = list(modifier.group_labels or []) if many else []
    one: dict[Labels, Labels] = {}
    for key in right:
        if one.setdefault(signature(key), key) != key:
            raise ValueError(f"several series on the right for {dict(signature(key))}")
    result: Vector = {}
    for key, series in left.items():
        other = one.get(signature(key))
        if other is None:
            continue
        out = key
        if many:
            copied = {(n, v) for n, v in other if n in include}
            out = frozenset({(n, v) for n, v in key if n not in include} | copied)
        elif modifier is not None:
            out = signature(key)
        if out in result:
            raise ValueError(f"several series on the left for {dict(out)}")
        result[out] = _applied(op, series, right[other], series)
    return result


def _set_operation(
    op: str, left: Vector, right: Vector, signature: Callable[[Labels], Labels]
) -> Vector:
    def presence(vector: Vector) -> dict[Labels, NDArray[np.bool_]]:
        found: dict[Labels, NDArray[np.bool_]] = {}
        for key, series in vector.items():
            here = ~np.isnan(series)
            known = found.get(signature(key))
            found[signature(key)] = here if known is None else known | here
        return found

    if op == "or":
        there = presence(left)
        result = dict(left)
        for key, series in right.items():
            taken = there.get(signature(key))
            added = series if taken is None else np.where(taken, np.nan, series)
            known = result.get(key)
            result[key] = added if known is None else np.where(np.isnan(known), added, known)
        return result
    there = presence(right)
    result = {}
    for key, series in left.items():
        other = there.get(signature(key))
        if op == "and" and other is not None:
            result[key] = np.where(other, series, np.nan)
        elif op == "unless":
            result[key] = series if other is None else np.where(other, np.nan, series)
    return result


def _reduced(op: str, group: Series) -> Series:
    here = ~np.isnan(group)
    reduce = {
        "sum": lambda: np.where(here, group, 0.0).sum(axis=0),
        "max": lambda: np.where(here, group, -np.inf).max(axis=0),
        "count": lambda: here.sum(axis=0).astype(np.float64),
    }[op]
    return np.where(here.any(axis=0), reduce(), np.nan)


def _relabelled(vector: Vector, target: str, new: str, source: str, pattern: str) -> Vector:
    result: Vector = {}
    for key, series in vector.items():
        have = dict(key)
        found = re.fullmatch(pattern, have.get(source, ""))
        if found:
            have[target] = found.expand(re.sub(r"\$(\d)", r"\\\1", new))
        result[frozenset((n, v) for n, v in have.items() if v)] = series
    return result


def _matches(matcher: Any, value: str) -> bool:
    op = str(matcher.op).removeprefix("MatchOp.")
    if op == "Equal":
        return bool(value == matcher.value)
    if op == "NotEqual":
        return bool(value != matcher.value)
    if op == "Re":
        return re.fullmatch(matcher.value, value) is not None
    return re.fullmatch(matcher.value, value) is None


def _signature(modifier: Any) -> Callable[[Labels], Labels]:
    if modifier is None or modifier.matching is None:
        return lambda key: key
    return _keeper_of(str(modifier.matching.type), modifier.matching.labels)


def _keeper(modifier: Any) -> Callable[[Labels], Labels]:
    if modifier is None:
        return lambda _: labels()
    return _keeper_of(str(modifier.type), modifier.labels)


def _keeper_of(kind: str, names: Iterable[str]) -> Callable[[Labels], Labels]:
    chosen = set(names)
    if kind.endswith(("By", "Include")):
        return lambda key: frozenset(pair for pair in key if pair[0] in chosen)
    return lambda key: frozenset(pair for pair in key if pair[0] not in chosen)
