"""Spark Structured Streaming from one topic to another: all that is there now, from its checkpoint on.

spark_copy.py BOOTSTRAP JARS CHECKPOINT FROM_TOPIC TO_TOPIC
"""

from __future__ import annotations

import sys

from pyspark.sql import SparkSession


def main(bootstrap: str, jars: str, checkpoint: str, given: str, told: str) -> None:
    spark = SparkSession.builder.master("local[2]").config("spark.jars", jars)
    for name, value in {
        "spark.driver.memory": "512m",
        "spark.sql.shuffle.partitions": "2",
        "spark.ui.enabled": "false",
        "spark.driver.host": "127.0.0.1",
    }.items():
        spark = spark.config(name, value)
    session = spark.getOrCreate()
    records = (
        session.readStream.format("kafka")
        .option("kafka.bootstrap.servers", bootstrap)
        .option("subscribe", given)
        .option("startingOffsets", "earliest")
        .option("includeHeaders", "true")
        .option("maxOffsetsPerTrigger", "400")
        .load()
    )
    query = (
        records.select("key", "value", "headers", "partition")
        .writeStream.format("kafka")
        .option("kafka.bootstrap.servers", bootstrap)
        .option("topic", told)
        .option("includeHeaders", "true")
        .option("checkpointLocation", checkpoint)
        .trigger(availableNow=True)
        .start()
    )
    query.awaitTermination()
    batch = session.read.format("kafka").option("kafka.bootstrap.servers", bootstrap).option("subscribe", told)
    print(f"a batch reads {batch.load().count()} records", flush=True)
    session.stop()


if __name__ == "__main__":
    main(*sys.argv[1:])
