"""Operations with their outcome: each invoke paired with what its process said next."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from raftlog.faultlab.history import LAB, Operation

NEVER_NS = 2**62
"""The end of an operation of which nothing more was heard."""


class Attempt:
    """`value` is the outcome's; of an attempt without one the invoke's. `kind`: ok, fail or info."""

    __slots__ = ("begin_ns", "end_ns", "function", "kind", "process", "value")

    def __init__(self, process: int, function: str, kind: str, value: Any, begin_ns: int, end_ns: int) -> None:
        self.process = process
        self.function = function
        self.kind = kind
        self.value = value
        self.begin_ns = begin_ns
        self.end_ns = end_ns

    def __str__(self) -> str:
        return f"process {self.process}, {self.function} at {self.begin_ns / 1e9:.3f} s"


def pair(history: Iterable[Operation]) -> Iterator[Attempt]:
    """In the order in which they ended; those that never did come last. A lone info is an attempt of its own."""
    begun: dict[int, Operation] = {}
    for operation in history:
        process = operation.process
        if process == LAB:
            continue
        if operation.type == "invoke":
            unfinished = begun.get(process)
            if unfinished is not None:
                yield _unknown(unfinished)
            begun[process] = operation
            continue
        invoke = begun.get(process)
        if invoke is not None and invoke.function == operation.function:
            del begun[process]
            value = invoke.value if operation.value is None else operation.value
            yield Attempt(process, operation.function, operation.type, value, invoke.time_ns, operation.time_ns)
        else:
            yield Attempt(
                process, operation.function, operation.type, operation.value, operation.time_ns, operation.time_ns
            )
    for unfinished in begun.values():
        yield _unknown(unfinished)


def is_acked(sent: list[Any]) -> bool:
    """One [partition, value, offset] of a send, or [partition, value] of one without an outcome."""
    return len(sent) > 2 and sent[2] is not None and sent[2] >= 0


def _unknown(invoke: Operation) -> Attempt:
    return Attempt(invoke.process, invoke.function, "info", invoke.value, invoke.time_ns, NEVER_NS)
