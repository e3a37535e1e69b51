"""Reads topics from their beginning to their end now, with kafka-python alone: one JSON a record.

Usage: reader.py BROKER TOPIC...
"""
import json
import sys

from kafka import KafkaConsumer, TopicPartition


def text(raw):
    return None if raw is None else raw.decode("utf-8")


def main(broker, topics):
    consumer = KafkaConsumer(bootstrap_servers=broker, enable_auto_commit=False, group_id=None)
    places = [TopicPartition(topic, number) for topic in topics for number in sorted(consumer.partitions_for_topic(topic))]
    consumer.assign(places)
    ends = consumer.end_offsets(places)
    consumer.seek_to_beginning(*places)
    while any(consumer.position(place) < ends[place] for place in places):
        for records in consumer.poll(timeout_ms=1000).values():
            for record in records:
                print(json.dumps({
                    "topic": record.topic, "partition": record.partition, "offset": record.offset, "key": text(record.key),
                    "payload": text(record.value),
                    "headers": [[name, text(value)] for name, value in record.headers],
                }))
    consumer.close()


main(sys.argv[1], sys.argv[2:])
