"""Operations with their outcome: each invoke paired with what its process said next."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from raftlog.faultlab.history import LAB, Operation

NEVER_NS = 2**62
"""The end of an operation of which nothing more was heard."""


class Attempt:
    """An operation of a client: its invocation and its outcome.

    `value` and `generation` are the outcome's, or where it has none the invoke's. `kind`: ok, fail or info.
    """

    __slots__ = ("begin_ns", "end_ns", "function", "generation", "kind", "process", "value")

    def __init__(
        self,
        process: int,
        function: str,
        kind: str,
        value: Any,
        begin_ns: int,
        end_ns: int,
        generation: int | None = None,
    ) -> None:
        self.process = process
        self.function = function
        self.kind = kind
        self.value = value
        self.begin_ns = begin_ns
        self.end_ns = end_ns
        self.generation = generation

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
        else:
            invoke = operation
        value = invoke.value if operation.value is None else operation.value
        generation = invoke.generation if operation.generation is None else operation.generation
        begin_ns, end_ns = invoke.time_ns, operation.time_ns
        yield Attempt(process, operation.function, operation.type, value, begin_ns, end_ns, generation)
    for unfinished in begun.values():
        yield _unknown(unfinished)


def is_acked(sent: list[Any]) -> bool:
    """One [partition, value, offset] of a send, or [partition, value] of one without an outcome."""
    return len(sent) > 2 and sent[2] is not None and sent[2] >= 0


def _unknown(invoke: Operation) -> Attempt:
    return Attempt(invoke.process, invoke.function, "info", invoke.value, invoke.time_ns, NEVER_NS)
