"""Kafka's protocol in front of raftlog's own handlers: everything of it that needs no socket and no clock.

    bytes -> connection -> wire -> row of apis -> handler -> questions to workers -> answer in its place -> bytes

raftlog/node/kafka_door.py puts real sockets around it.
"""
