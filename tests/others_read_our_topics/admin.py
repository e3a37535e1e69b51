"""What an operator does to topics, with kafka-python's admin client.

Usage: admin.py BROKER delete-topics TOPIC...
       admin.py BROKER delete-records TOPIC     all that is in it now
"""
import sys

from kafka import KafkaConsumer, TopicPartition
from kafka.admin import KafkaAdminClient

broker, verb, *topics = sys.argv[1:]
admin = KafkaAdminClient(bootstrap_servers=broker)
if verb == "delete-topics":
    admin.delete_topics(topics)
elif verb == "delete-records":
    consumer = KafkaConsumer(bootstrap_servers=broker, group_id=None)
    places = [TopicPartition(topic, number) for topic in topics for number in consumer.partitions_for_topic(topic)]
    ends = consumer.end_offsets(places)
    admin.delete_records({place: end for place, end in ends.items() if end > 0})
else:
    sys.exit(__doc__)
