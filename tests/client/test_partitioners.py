"""Where records go. Kafka's murmur2 vectors are those of its own UtilsTest."""

from __future__ import annotations

import random
import zlib
from collections import Counter

import pytest

from raftlog.client.producer.partitioners import PARTITIONERS, Hashed, RoundRobin, Sticky, murmur2, partitioner_named

FIVE = [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("data", "signed"),
    [
        (b"21", -973932308),
        (b"foobar", -790332482),
        (b"a-little-bit-long-string", -985981536),
        (b"a-little-bit-longer-string", -1486304829),
        (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
        (b"abc", 479470107),
        (b"", 275646681),
    ],
)
def test_murmur2_is_bit_exact_with_kafka(data: bytes, signed: int) -> None:
    assert murmur2(data) == signed & 0xFFFFFFFF


def test_murmur2_picks_kafkas_partition() -> None:
    partitioner = partitioner_named("murmur2")
    for key in (b"21", b"foobar", b"abc", b"a"):
        assert partitioner.choose(key, FIVE) == (murmur2(key) & 0x7FFFFFFF) % 5


def test_crc32_is_zlib_modulo_partitions() -> None:
    partitioner = partitioner_named("crc32")
    for number in range(200):
        key = b"key-%d" % number
        assert partitioner.choose(key, FIVE) == zlib.crc32(key) % 5


def test_round_robin_is_even_to_one_whatever_the_keys() -> None:
    partitioner = RoundRobin()
    counts = Counter(partitioner.choose(b"same" if n % 3 else None, FIVE) for n in range(1003))
    assert set(counts) == set(FIVE)
    assert max(counts.values()) - min(counts.values()) <= 1


def test_sticky_stays_until_a_batch_is_begun() -> None:
    partitioner = Sticky(random.Random(7))
    first = {partitioner.choose(b"any key", FIVE) for _ in range(50)}
    assert len(first) == 1
    seen = set()
    for _ in range(200):
        partitioner.batch_begun()
        seen.add(partitioner.choose(None, FIVE))
    assert seen == set(FIVE)


def test_sticky_leaves_a_partition_that_is_gone() -> None:
    partitioner = Sticky(random.Random(7))
    while partitioner.choose(None, FIVE) == 0:
        partitioner.batch_begun()
    assert partitioner.choose(None, [0]) == 0


@pytest.mark.parametrize("name", ["murmur2", "crc32"])
def test_records_without_a_key_stick_together(name: str) -> None:
    partitioner = partitioner_named(name)
    assert isinstance(partitioner, Hashed)
    assert len({partitioner.choose(None, FIVE) for _ in range(50)}) == 1


def test_a_user_function_decides_by_first_letter() -> None:
    def by_first_letter(key: bytes | None, partitions: list[int]) -> int:
        return partitions[(key or b"a")[0] % len(partitions)]

    partitioner = partitioner_named(by_first_letter)
    assert partitioner.choose(b"apple", FIVE) == partitioner.choose(b"avocado", FIVE) == ord("a") % 5
    assert partitioner.choose(b"banana", FIVE) == ord("b") % 5


def test_a_user_function_that_names_no_partition_is_told_so() -> None:
    with pytest.raises(ValueError, match="chose 9"):
        partitioner_named(lambda key, partitions: 9).choose(b"k", FIVE)


def test_a_wrong_name_lists_the_right_ones() -> None:
    with pytest.raises(ValueError, match="sticky, round-robin, murmur2, crc32"):
        partitioner_named("random")
    assert PARTITIONERS == ("sticky", "round-robin", "murmur2", "crc32")
