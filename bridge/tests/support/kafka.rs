//! What the tests on a real Kafka share: topics of their own, brokers of their own, and an owner that writes everything down.

#![allow(dead_code)]

use std::{
    collections::{BTreeMap, HashMap},
    hash::{BuildHasher, RandomState},
    net::TcpListener,
    path::{Path, PathBuf},
    process::Command,
    sync::mpsc,
    time::{Duration, Instant},
};

use microcommerce_bridge::{
    kafka::{KafkaClientSettings, KafkaSink, KafkaSinkConfig, KafkaSource, KafkaSourceConfig, KafkaTopics, TopicSpec},
    ports::{Assignment, Commit, Credit, LogSink, LogSource, PartitionOwner, SinkError, SourceEvent, Written},
    record::{Headers, OutgoingRecord, Record, TopicPartition},
};

use super::{PATIENCE, unique};

pub fn settings(broker: &str) -> KafkaClientSettings {
    KafkaClientSettings::plain(broker, "bridge-test")
}

/// A topic of this test's own.
pub async fn new_topic(broker: &str, partitions: i32) -> String {
    let name = unique("kaf");
    KafkaTopics::new(settings(broker)).unwrap().create_missing(&[TopicSpec::new(&name, partitions)]).await.unwrap();
    name
}

pub fn sink(broker: &str) -> KafkaSink {
    KafkaSink::start(KafkaSinkConfig::new(settings(broker))).unwrap()
}

/// A member whose death shows soon.
pub fn source_config(broker: &str, group: &str, topic: &str) -> KafkaSourceConfig {
    KafkaSourceConfig {
        session_timeout: Duration::from_secs(6),
        refresh: Duration::from_secs(2),
        ..KafkaSourceConfig::new(settings(broker), group, vec![topic.to_owned()])
    }
}

pub fn source(broker: &str, group: &str, topic: &str) -> Box<dyn LogSource> {
    Box::new(KafkaSource::start(&source_config(broker, group, topic)).unwrap())
}

pub fn outgoing(topic: &str, key: Option<&str>, value: Option<&str>) -> OutgoingRecord {
    OutgoingRecord {
        topic: topic.into(),
        partition: None,
        key: key.map(|key| key.to_owned().into()),
        value: value.map(|value| value.to_owned().into()),
        timestamp_ms: None,
        headers: Headers::default(),
    }
}

/// Sends and waits for every acknowledgement, making room where there is none.
pub async fn write_all(
    sink: &dyn LogSink,
    records: impl IntoIterator<Item = OutgoingRecord>,
) -> Vec<Result<Written, SinkError>> {
    let (told, tells) = mpsc::channel();
    let mut count = 0;
    for (index, record) in records.into_iter().enumerate() {
        count = index + 1;
        let told = told.clone();
        let mut acknowledge: Box<dyn FnOnce(Result<Written, SinkError>) + Send + Sync> =
            Box::new(move |result| told.send((index, result)).unwrap());
        while let Err(not_taken) = sink.send(&record, acknowledge) {
            if not_taken.error == SinkError::Full {
                acknowledge = not_taken.acknowledge;
                sink.room().await;
            } else {
                (not_taken.acknowledge)(Err(not_taken.error));
                break;
            }
        }
    }
    tokio::task::spawn_blocking(move || {
        let mut results: BTreeMap<usize, Result<Written, SinkError>> = BTreeMap::new();
        while results.len() < count {
            let (index, result) = tells.recv_timeout(Duration::from_secs(60)).unwrap();
            assert!(results.insert(index, result).is_none(), "acknowledged twice");
        }
        results.into_values().collect()
    })
    .await
    .unwrap()
}

/// Writes everything down and finishes everything at once, in order.
#[derive(Default)]
pub struct Notebook {
    pub owned: BTreeMap<TopicPartition, i64>,
    pub assignments: Vec<Assignment>,
    pub records: Vec<Record>,
    pub revoked: Vec<TopicPartition>,
    pub lost: Vec<TopicPartition>,
    pub committed: Vec<(Commit, Result<(), String>)>,
    pub events: Vec<SourceEvent>,
    pub credit: Option<Credit>,
    /// Metadata of the commits that a revocation asks for.
    pub metadata: String,
}

impl Notebook {
    /// The offsets after the last record of each partition that is ours.
    pub fn commits(&self, partitions: &[TopicPartition]) -> Vec<Commit> {
        let reached = self.owned.iter().filter(|(id, offset)| partitions.contains(id) && **offset > 0);
        let commit = |(id, offset): (&TopicPartition, &i64)| Commit {
            partition: id.clone(),
            offset: *offset,
            metadata: self.metadata.clone(),
            log_id: None,
        };
        reached.map(commit).collect()
    }

    pub fn all_commits(&self) -> Vec<Commit> {
        self.commits(&self.owned.keys().cloned().collect::<Vec<_>>())
    }

    pub fn end_of(&self, id: &TopicPartition) -> Option<i64> {
        self.events.iter().rev().find_map(|event| match event {
            SourceEvent::HighWatermark(partition, end) if partition == id => Some(*end),
            _ => None,
        })
    }

    pub fn is_reachable(&self) -> Option<bool> {
        self.events.iter().rev().find_map(|event| match event {
            SourceEvent::Reachable => Some(true),
            SourceEvent::Unreachable(_) => Some(false),
            _ => None,
        })
    }
}

impl PartitionOwner for Notebook {
    fn assigned(&mut self, assignments: Vec<Assignment>) -> Vec<(TopicPartition, i64)> {
        for assignment in &assignments {
            let from = assignment.committed.as_ref().map_or(0, |commit| commit.offset);
            assert!(self.owned.insert(assignment.partition.clone(), from).is_none(), "assigned twice");
        }
        self.assignments.extend(assignments);
        Vec::new()
    }

    fn credit(&self, partition: &TopicPartition) -> Credit {
        assert!(self.owned.contains_key(partition), "credit for a partition that is not ours");
        self.credit.unwrap_or(Credit { records: 10_000, bytes: 1 << 20 })
    }

    fn records(&mut self, partition: &TopicPartition, records: Vec<Record>) {
        let next = self.owned.get_mut(partition).expect("records of a partition that is not ours");
        for record in &records {
            assert!(record.offset >= *next, "{partition}: {} after {next}", record.offset);
            *next = record.offset + 1;
        }
        self.records.extend(records);
    }

    fn revoked(&mut self, partitions: &[TopicPartition]) -> Vec<Commit> {
        let commits = self.commits(partitions);
        self.owned.retain(|id, _| !partitions.contains(id));
        self.revoked.extend_from_slice(partitions);
        commits
    }

    fn lost(&mut self, partitions: &[TopicPartition]) {
        self.owned.retain(|id, _| !partitions.contains(id));
        self.lost.extend_from_slice(partitions);
    }

    fn committed(&mut self, commit: Commit, result: Result<(), String>) {
        self.committed.push((commit, result));
    }

    fn event(&mut self, event: SourceEvent) {
        self.events.push(event);
    }
}

/// Polls until `condition` holds, [`PATIENCE`] at most.
pub fn poll_until(
    what: &str,
    source: &mut Box<dyn LogSource>,
    notebook: &mut Notebook,
    condition: impl Fn(&Notebook) -> bool,
) -> Duration {
    poll_within(what, PATIENCE, source, notebook, condition)
}

pub fn poll_within(
    what: &str,
    patience: Duration,
    source: &mut Box<dyn LogSource>,
    notebook: &mut Notebook,
    condition: impl Fn(&Notebook) -> bool,
) -> Duration {
    let began = Instant::now();
    while !condition(notebook) {
        assert!(
            began.elapsed() < patience,
            "not within {patience:?}: {what}; owned {:?}, {} records, events {:?}",
            notebook.owned,
            notebook.records.len(),
            notebook.events.iter().rev().take(5).collect::<Vec<_>>()
        );
        source.poll(Duration::from_millis(20), notebook).unwrap();
    }
    began.elapsed()
}

/// The values of each key, in the order in which they came.
pub fn by_key(records: &[Record]) -> HashMap<String, Vec<String>> {
    let mut values: HashMap<String, Vec<String>> = HashMap::new();
    for record in records {
        let text = |bytes: &Option<bytes::Bytes>| String::from_utf8(bytes.clone().unwrap().to_vec()).unwrap();
        values.entry(text(&record.key)).or_default().push(text(&record.value));
    }
    values
}

/// Brokers of one test's own, on ports that nobody else has; stopped, and their data removed, when the test ends.
pub struct OwnBrokers {
    port: u16,
    count: u16,
    /// What a run of `kafka.sh` keeps for all brokers: also the fetched libraries, which are shared.
    directory: PathBuf,
}

/// Below the ports that the system gives to clients, and clear of the usual ones of Kafka.
const PORT_FIRST: u16 = 20_000;
/// Apart by as many as the largest cluster of a test needs, with room.
const PORT_STEP: u16 = 8;
const PORT_STEPS: u16 = 1_100;
/// Controllers listen this far above the brokers, TLS as far again.
const PORTS_ABOVE: u16 = 1_000;

impl OwnBrokers {
    /// Not yet started.
    pub fn new(count: u16) -> Self {
        let directory = std::env::var_os("KAFKA_DIR")
            .map_or_else(|| std::env::temp_dir().join("microcommerce-kafka"), PathBuf::from);
        let is_free = |port| TcpListener::bind(("127.0.0.1", port)).is_ok();
        let are_free =
            |port: u16| (0..=2).all(|above| (0..count).all(|index| is_free(port + above * PORTS_ABOVE + index)));
        let first = RandomState::new().hash_one(0) % u64::from(PORT_STEPS);
        let mut ports = (0..PORT_STEPS).map(|step| PORT_FIRST + (first as u16 + step) % PORT_STEPS * PORT_STEP);
        std::fs::create_dir_all(&directory).unwrap();
        // A folder is made once: of two that find the same ports free, one has them.
        let is_ours = |port: &u16| are_free(*port) && std::fs::create_dir(directory.join(port.to_string())).is_ok();
        Self { port: ports.find(is_ours).unwrap(), count, directory }
    }

    pub fn address(&self) -> String {
        (0..self.count).map(|index| format!("127.0.0.1:{}", self.port + index)).collect::<Vec<_>>().join(",")
    }

    /// Where the first one listens with TLS and passwords, if it was started so.
    pub fn tls_address(&self) -> String {
        format!("127.0.0.1:{}", self.port + 2 * PORTS_ABOVE)
    }

    /// Starts one that listens with TLS and passwords too; the file with the certificate that vouches for it.
    pub async fn start_with_tls(&self) -> String {
        let mut script = self.script("start");
        script.env("KAFKA_TLS", "1");
        run(script).await;
        self.directory.join(format!("{}/tls/ca.pem", self.port)).into_os_string().into_string().unwrap()
    }

    pub async fn run(&self, command: &str) -> Duration {
        run(self.script(command)).await
    }

    /// The file of a partition's first segment, on the first broker that has it.
    pub fn segment(&self, topic: &str, partition: usize) -> PathBuf {
        fn find(directory: &Path, name: &str) -> Option<PathBuf> {
            let entries = std::fs::read_dir(directory).ok()?.flatten();
            let mut directories = entries.map(|entry| entry.path()).filter(|path| path.is_dir());
            directories.find_map(|path| if path.ends_with(name) { Some(path) } else { find(&path, name) })
        }
        let directory = self.directory.join(self.port.to_string());
        let place = find(&directory, &format!("{topic}-{partition}")).expect("the partition has a directory");
        place.join("00000000000000000000.log")
    }

    /// Stopped, they lose all that they have: the next start is of new brokers.
    pub fn lose_data(&self) {
        std::fs::remove_dir_all(self.directory.join(self.port.to_string())).unwrap();
        std::fs::create_dir(self.directory.join(self.port.to_string())).unwrap();
    }

    fn script(&self, command: &str) -> Command {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/local/kafka.sh");
        let version = std::env::var("KAFKA_VERSION").unwrap_or_else(|_| "3.7.0".to_owned());
        let mut bash = Command::new("bash");
        bash.arg(script).args(command.split(' '));
        bash.env("KAFKA_PORT", self.port.to_string()).env("KAFKA_DIR", &self.directory);
        if command == "start" {
            bash.args([version, self.count.to_string()]);
        }
        bash
    }
}

async fn run(mut script: Command) -> Duration {
    let began = Instant::now();
    let output = tokio::task::spawn_blocking(move || script.output().unwrap()).await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    began.elapsed()
}

impl Drop for OwnBrokers {
    fn drop(&mut self) {
        let _ = self.script("stop").output();
        let _ = std::fs::remove_dir_all(self.directory.join(self.port.to_string()));
    }
}
