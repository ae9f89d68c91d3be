"""What has to move so that the nodes hold as much as each other: as few bytes as do it. Pure.

    replicas     to one, since each is a process
    bytes        to a tenth of what a node holds on the average, as far as moves and exchanges of two allow
    witnesses    to one; a partition that was made when there were too few nodes gets those that it lacks
    leaders      of what moves anyway, the first replica is the one whose node is the first of fewest

Each step makes what it is about more even, so it ends; a layout that is even gives no moves. What lies on a node that
is away stays there: the node may come back. No witness becomes a replica.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from raftlog.types import TopicPartition
from raftlog.view.layout import Layout, Move

_LEEWAY = 0.1  # of the average of the nodes' bytes
_LEEWAY_BYTES = 64 * 1024 * 1024  # what is less than that is not worth a copy
_EXCHANGES_MAX = 20  # of the smallest replicas that may come back for a larger one


class _Step(NamedTuple):
    """One replica goes from `source` to `target`, and perhaps another one comes back."""

    place: TopicPartition
    back: TopicPartition | None
    transferred_bytes: int
    copied_bytes: int


def balance(layout: Layout) -> list[Move]:
    if len(layout.candidates) > 1:
        while _even_out_replicas(layout):
            pass
        while _even_out_bytes(layout):
            pass
        _even_out_leaders(layout)
        _even_out_witnesses(layout)
    return layout.moves()


def _even_out_replicas(layout: Layout) -> bool:
    """From the node with most replicas to the one with fewest. False: they differ by one, or vote for all there is."""
    by_load = sorted(layout.candidates, key=lambda node_id: (layout.replicas[node_id], layout.size_bytes[node_id]))
    for source in reversed(by_load):
        for target in by_load:
            if layout.replicas[source] - layout.replicas[target] < 2:
                break
            movable = _movable(layout, source, target)
            if movable:
                _shift(layout, _fittest(layout, movable, source, target), source, target)
                return True
    return False


def _fittest(layout: Layout, movable: Sequence[TopicPartition], source: int, target: int) -> TopicPartition:
    surplus = layout.replicas[source] - layout.replicas[target]
    # Of what has to go over in bytes as well each of these replicas takes its part; where nothing has to, the smallest.
    wanted_bytes = max(0, layout.size_bytes[source] - layout.size_bytes[target]) // surplus

    def fit(place: TopicPartition) -> tuple[int, int, TopicPartition]:
        amiss_bytes = abs(layout.held[place].size_bytes - wanted_bytes)
        crowd = layout.of_topic[place.topic, target] - layout.of_topic[place.topic, source]
        return amiss_bytes // (wanted_bytes // 4 + 1), crowd, place

    return min(movable, key=fit)


def _even_out_bytes(layout: Layout) -> bool:
    """One step between two nodes, the heaviest and the lightest first. False: nothing helps any more."""
    sizes = layout.size_bytes
    average = sum(sizes[node_id] for node_id in layout.candidates) / len(layout.candidates)
    leeway = max(average * _LEEWAY, _LEEWAY_BYTES)
    by_size = sorted(layout.candidates, key=lambda node_id: (sizes[node_id], node_id))
    for source in reversed(by_size):
        for target in by_size:
            need = max(sizes[source] - average, average - sizes[target])
            gap = sizes[source] - sizes[target]
            if gap <= leeway or need <= leeway:
                break
            step = _best(layout, source, target, gap, need, leeway / 4)
            if step is not None:
                _shift(layout, step.place, source, target)
                if step.back is not None:
                    _shift(layout, step.back, target, source)
                return True
    return False


def _best(layout: Layout, source: int, target: int, gap: int, need: float, least: float) -> _Step | None:
    """What brings the two nodes nearest to each other for the bytes that it copies; None: nothing does by `least`."""

    def gain(step: _Step) -> float:
        return min(step.transferred_bytes, gap - step.transferred_bytes)

    def price(step: _Step) -> tuple[float, float]:
        return min(gain(step), need) / step.copied_bytes, gain(step)

    worthwhile = [step for step in _steps(layout, source, target) if gain(step) >= least]
    return max(worthwhile, key=price, default=None)


def _steps(layout: Layout, source: int, target: int) -> Iterator[_Step]:
    def size(place: TopicPartition) -> int:
        return layout.held[place].size_bytes

    back = sorted(_movable(layout, target, source), key=lambda place: (size(place), place))[:_EXCHANGES_MAX]
    for place in _movable(layout, source, target):
        if layout.replicas[source] > layout.replicas[target]:
            yield _Step(place, None, size(place), size(place))
        for other in back:
            yield _Step(place, other, size(place) - size(other), size(place) + size(other))


def _movable(layout: Layout, source: int, target: int) -> list[TopicPartition]:
    """What the one holds and the other can."""
    found = [
        place
        for place, half in layout.halves.items()
        if source in half.replicas and target not in half.ids and layout.stays_its_kind(place, target, replica=True)
    ]
    return sorted(found)


def _shift(layout: Layout, place: TopicPartition, source: int, target: int) -> None:
    half = layout.halves[place]
    replicas = [target if node_id == source else node_id for node_id in half.replicas]
    layout.assign(place, replicas, half.witnesses)


def _even_out_leaders(layout: Layout) -> None:
    moved = {place for place, half in layout.halves.items() if half != layout.planned(place)}
    again = True
    while again:
        again = False
        for place in sorted(moved):
            replicas, witnesses = layout.halves[place].replicas, layout.halves[place].witnesses
            living = [node_id for node_id in replicas if node_id in layout.candidates]
            best = min(living, key=lambda node_id: layout.leads[node_id], default=replicas[0])
            if layout.leads[replicas[0]] - layout.leads[best] >= 2:
                others = [node_id for node_id in replicas if node_id != best]
                layout.assign(place, [best, *others], witnesses)
                again = True


def _even_out_witnesses(layout: Layout) -> None:
    for place in sorted(layout.halves):
        if layout.lacks_witnesses(place):
            layout.assign(place, layout.halves[place].replicas)
    while any(_move_witness(layout, place) for place in sorted(layout.halves)):
        pass


def _move_witness(layout: Layout, place: TopicPartition) -> bool:
    replicas, witnesses = layout.halves[place].replicas, layout.halves[place].witnesses
    free = [node_id for node_id in layout.candidates if node_id not in replicas + witnesses]
    best = min(free, key=lambda node_id: layout.witnesses[node_id], default=None)
    for node_id in witnesses:
        if best is None or node_id not in layout.candidates:
            continue
        if layout.witnesses[node_id] - layout.witnesses[best] >= 2:
            layout.assign(place, replicas, [best if each == node_id else each for each in witnesses])
            return True
    return False
