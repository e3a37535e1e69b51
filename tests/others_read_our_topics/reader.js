// Reads topics from their beginning to their end now, with kafkajs alone: one JSON a record.
//
// Usage: node reader.js BROKER TOPIC...
const { Kafka, logLevel } = require("kafkajs");

const [broker, ...topics] = process.argv.slice(2);
const text = (raw) => (raw === null || raw === undefined ? null : raw.toString("utf8"));

async function main() {
  const kafka = new Kafka({ clientId: "reader", brokers: [broker], logLevel: logLevel.ERROR });
  const admin = kafka.admin();
  await admin.connect();
  const left = new Map();
  for (const topic of topics) {
    for (const { partition, low, high } of await admin.fetchTopicOffsets(topic)) {
      if (Number(high) > Number(low)) left.set(`${topic}/${partition}`, Number(high));
    }
  }
  await admin.disconnect();
  if (left.size === 0) return;
  const consumer = kafka.consumer({ groupId: `reader-js-${process.pid}-${Date.now()}` });
  await consumer.connect();
  await consumer.subscribe({ topics, fromBeginning: true });
  await new Promise((done, failed) => {
    consumer.on(consumer.events.CRASH, ({ payload }) => failed(payload.error));
    consumer
      .run({
        autoCommit: false,
        eachMessage: async ({ topic, partition, message }) => {
          const headers = Object.entries(message.headers ?? {}).map(([name, value]) => [name, text(value)]);
          const record = { topic, partition, offset: Number(message.offset), key: text(message.key), payload: text(message.value), headers };
          console.log(JSON.stringify(record));
          const place = `${topic}/${partition}`;
          if (left.has(place) && Number(message.offset) + 1 >= left.get(place)) left.delete(place);
          if (left.size === 0) done();
        },
      })
      .catch(failed);
  });
  await consumer.disconnect();
}

main().then(
  () => process.exit(0),
  (error) => {
    console.error(error);
    process.exit(1);
  },
);
