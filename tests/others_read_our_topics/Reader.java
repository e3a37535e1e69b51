import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;

/** Reads topics from their beginning to their end now, with Java's client alone: one JSON a record. Usage: Reader BROKER TOPIC... */
public final class Reader {
    public static void main(String[] arguments) {
        Map<String, Object> settings = Map.of("bootstrap.servers", arguments[0], "enable.auto.commit", "false");
        try (KafkaConsumer<byte[], byte[]> consumer =
                new KafkaConsumer<>(settings, new ByteArrayDeserializer(), new ByteArrayDeserializer())) {
            List<TopicPartition> places = new ArrayList<>();
            for (String topic : Arrays.asList(arguments).subList(1, arguments.length)) {
                consumer.partitionsFor(topic).forEach(info -> places.add(new TopicPartition(topic, info.partition())));
            }
            consumer.assign(places);
            Map<TopicPartition, Long> ends = consumer.endOffsets(places);
            consumer.seekToBeginning(places);
            StringBuilder out = new StringBuilder();
            while (places.stream().anyMatch(place -> consumer.position(place) < ends.get(place))) {
                consumer.poll(Duration.ofSeconds(1)).forEach(record -> write(record, out));
            }
            System.out.print(out);
        }
    }

    private static void write(ConsumerRecord<byte[], byte[]> record, StringBuilder out) {
        out.append("{\"topic\":").append(text(record.topic().getBytes(StandardCharsets.UTF_8)));
        out.append(",\"partition\":").append(record.partition()).append(",\"offset\":").append(record.offset());
        out.append(",\"key\":").append(text(record.key())).append(",\"payload\":").append(text(record.value())).append(",\"headers\":[");
        String comma = "";
        for (Header header : record.headers()) {
            out.append(comma).append('[').append(text(header.key().getBytes(StandardCharsets.UTF_8))).append(',').append(text(header.value())).append(']');
            comma = ",";
        }
        out.append("]}\n");
    }

    private static String text(byte[] raw) {
        if (raw == null) {
            return "null";
        }
        StringBuilder text = new StringBuilder("\"");
        for (char letter : new String(raw, StandardCharsets.UTF_8).toCharArray()) {
            if (letter == '"' || letter == '\\') {
                text.append('\\').append(letter);
            } else if (letter < ' ' || letter > '~') {
                text.append(String.format("\\u%04x", (int) letter));
            } else {
                text.append(letter);
            }
        }
        return text.append('"').toString();
    }
}
