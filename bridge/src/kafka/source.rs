//! One member of a consumer group, as a [`LogSource`].
//!
//! **Owns** one consumer and, for each partition that is ours, the queue of what was fetched of it. **Belongs to** the thread
//! that polls it. **When it is dropped** without [`close`](LogSource::close) it leaves the group without a commit, as a crash
//! would; the next owner begins at the last commit.
//!
//! - A partition's queue is split off *before* its assignment is carried out, after the old handle has gone: so no record
//!   reaches the main queue, and none is fetched twice. The main queue is polled on every turn: it brings rebalances,
//!   errors, results of commits and statistics.
//! - A partition's queue is polled only while its owner gives credit. It is **never paused**: librdkafka would throw away
//!   what it has fetched, and fetch it again. Without credit the queue fills to its bound and fetching stops by itself.
//! - The records of one batch share one buffer: a record costs no allocation.
//! - Nothing is committed but what the owner says, and every commit's result comes back to it.
//! - A log that is not the one that was read, records that are gone, and records that the client cannot read are told; the last are
//!   stepped over. What shows them: an error in a partition's queue, offsets that go back or jump, the log's ends in the statistics,
//!   the topic's identity, which is asked for now and then, and silence where there are records. An examiner finds out which it is.
//!   A topic that was made again ends this source, since only a new client reads it (see `identities`); its engine opens the next one.
//!
//! It does **not** decide what is finished, hold records back, or reorder anything.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use rdkafka::{
    config::{ClientConfig, FromClientConfigAndContext},
    consumer::{BaseConsumer, Consumer},
    error::{KafkaError, KafkaResult, RDKafkaErrorCode},
    message::Message,
    topic_partition_list::{Offset, TopicPartitionList},
};

use super::{
    assigned::AssignedPartition,
    batch::record_of,
    examiner::{Answer, Examiner, Finding, Question, Suspicion, state_of},
    group::{GroupContext, Told, assign, unassign},
    identities::Identities,
    native::{self, Listed},
    settings::{KafkaClientSettings, SettingsError, is_unreachable},
    statistics,
    wakeup::Wakeup,
};
use crate::{
    engine::{OpenSource, Subscription, Topics},
    ports::{
        Assignment, Commit, LOG_ID_BYTES_MAX, LogSource, LogState, METADATA_BYTES_MAX, PartitionOwner, SourceEvent,
        SourceFatal,
    },
    record::TopicPartition,
};

/// Events of the main queue served in one turn.
const MAIN_EVENTS_MAX: usize = 64;
/// While a partition has records but no credit, credit is asked for again after this.
const CREDIT_EVERY: Duration = Duration::from_millis(1);
/// Every queue is looked into this often even if nothing woke us: a wakeup that was missed costs this, not a stall.
const SWEEP_EVERY: Duration = Duration::from_millis(100);
/// How long an assignment waits for what was committed. Past it the partitions are read all the same, without the gaps.
const COMMITTED_WAIT_MAX: Duration = Duration::from_secs(5);
/// How long an assignment waits for what the logs are like. Past it they are compared later.
const STATE_WAIT_MAX: Duration = Duration::from_secs(2);
/// Before the identity of the log in a commit's metadata; `;` ends it.
const LOG_ID_PREFIX: &str = "log:";
/// How long a revocation waits for its commit. The whole group waits meanwhile.
const LAST_COMMIT_WAIT_MAX: Duration = Duration::from_secs(2);
/// How long leaving the group may take before the source goes without it.
const LEAVE_WAIT_MAX: Duration = Duration::from_secs(10);
/// Longest wait inside the client while one of the waits above goes on.
const STEP: Duration = Duration::from_millis(50);
/// How long a broker may keep a request for records that has nothing to answer. There is one request at a time: while it waits
/// for partitions that are read to their ends, those that were full when it was sent run dry. The default of 500 ms let a
/// partition with a backlog beside idle ones stand still most of the time; the price is this many empty answers more.
const FETCH_WAIT_MS: &str = "50";
/// How often health figures come.
const STATISTICS_MS: &str = "1000";

/// Which group, which topics, and how long a silent member is waited for.
#[derive(Clone, Debug)]
pub struct KafkaSourceConfig {
    /// Where Kafka is.
    pub client: KafkaClientSettings,
    /// The consumer group.
    pub group: String,
    /// Topics; one that begins with `^` is a regular expression over all topics' names.
    pub topics: Vec<String>,
    /// A name of this member that outlives a restart: within the session's time it gets its partitions back without a
    /// rebalance. Two members of one name throw each other out.
    pub instance_id: Option<String>,
    /// After this long without a sign of life the group gives a member's partitions to others.
    pub session_timeout: Duration,
    /// A member that does not poll for this long loses its partitions, alive or not. Longer than any drain.
    pub poll_interval_max: Duration,
    /// How often the client looks for topics and partitions that are new.
    pub refresh: Duration,
    /// Records of transactions that were not committed are left out.
    pub read_committed: bool,
}

impl KafkaSourceConfig {
    /// The usual: sessions of 10 s, a look for new topics every 30 s, committed records only.
    #[must_use]
    pub fn new(client: KafkaClientSettings, group: impl Into<String>, topics: Vec<String>) -> Self {
        Self {
            client,
            group: group.into(),
            topics,
            instance_id: None,
            session_timeout: Duration::from_secs(10),
            poll_interval_max: Duration::from_secs(60),
            refresh: Duration::from_secs(30),
            read_committed: true,
        }
    }

    /// What an engine's [`Subscription`] opens its source with: group and topics are the subscription's, the rest as here.
    #[must_use]
    pub fn opener(self) -> OpenSource {
        Arc::new(move |subscription: &Subscription| {
            let topics = match &subscription.topics {
                Topics::Named(names) => names.iter().map(|name| name.to_string()).collect(),
                Topics::Matching(pattern) if pattern.starts_with('^') => vec![pattern.clone()],
                Topics::Matching(pattern) => vec![format!("^.*{pattern}")],
            };
            let config = Self { group: subscription.group.to_string(), topics, ..self.clone() };
            KafkaSource::start(&config)
                .map(|source| Box::new(source) as Box<dyn LogSource>)
                .map_err(|error| error.to_string())
        })
    }

    fn client_config(&self) -> Result<ClientConfig, SettingsError> {
        let session_ms = self.session_timeout.as_millis();
        let mut config = self.client.client_config()?;
        config
            .set("group.id", &self.group)
            // The next generation of the group protocol is not supported by every broker that we are.
            .set("group.protocol", "classic")
            // Only what changes hands stops being read in a rebalance.
            .set("partition.assignment.strategy", "cooperative-sticky")
            .set("session.timeout.ms", session_ms.to_string())
            .set("heartbeat.interval.ms", (session_ms / 3).clamp(1, 3_000).to_string())
            .set("max.poll.interval.ms", self.poll_interval_max.as_millis().to_string())
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            // The default, the end of the log, loses what came before a group's first start.
            .set("auto.offset.reset", "earliest")
            // A bit that turned on the way or on the broker's disk is a dead letter, not another price.
            .set("check.crcs", "true")
            .set("isolation.level", if self.read_committed { "read_committed" } else { "read_uncommitted" })
            .set("allow.auto.create.topics", "false")
            // The default looks again only after a second whether a full queue has room: reading would go by fits and starts.
            .set("fetch.queue.backoff.ms", "10")
            .set("fetch.wait.max.ms", FETCH_WAIT_MS)
            .set("queued.min.messages", "10000")
            // For each partition, since their queues are split: the default of 64 MB would be that many times too much.
            .set("queued.max.messages.kbytes", "4096")
            .set("topic.metadata.refresh.interval.ms", self.refresh.as_millis().to_string())
            .set("statistics.interval.ms", STATISTICS_MS);
        if let Some(instance_id) = &self.instance_id {
            config.set("group.instance.id", instance_id);
        }
        Ok(config)
    }
}

/// See the module's text.
pub struct KafkaSource {
    // Before the consumer, so that the handles go first: each of them holds the consumer.
    partitions: Vec<AssignedPartition>,
    examiner: Examiner,
    /// Each assignment of a partition has a number of its own: an answer about a former one is none.
    generation: u64,
    identities: Identities,
    consumer: Arc<BaseConsumer<GroupContext>>,
    wakeup: Arc<Wakeup>,
    /// What happened and was not worked off yet, in order.
    happened: VecDeque<Happened>,
    is_reachable: Option<bool>,
    swept_at: Instant,
    read_committed: bool,
    /// What errors that belong to no partition are told of.
    subscription: Arc<str>,
}

enum Happened {
    Told(Told),
    Failed(KafkaError),
    /// A commit that was not even sent.
    NotCommitted(Commit, String),
}

impl KafkaSource {
    /// Joins the group, in the background: whether Kafka is there or not shows in later polls.
    ///
    /// # Errors
    /// [`SettingsError`] where the settings make no sense, or ask for encryption that this build has not.
    pub fn start(config: &KafkaSourceConfig) -> Result<Self, SettingsError> {
        let wakeup = Arc::new(Wakeup::default());
        let mut consumer = BaseConsumer::from_config_and_context(&config.client_config()?, GroupContext::default())?;
        let examiner = Examiner::start(config.client_config()?, Arc::clone(&wakeup))?;
        let theirs = Arc::clone(&wakeup);
        consumer.set_nonempty_callback(move || theirs.raise());
        let topics: Vec<&str> = config.topics.iter().map(String::as_str).collect();
        consumer.subscribe(&topics)?;
        Ok(Self {
            partitions: Vec::new(),
            examiner,
            generation: 0,
            identities: Identities::new(),
            consumer: Arc::new(consumer),
            wakeup,
            happened: VecDeque::new(),
            is_reachable: None,
            swept_at: Instant::now(),
            read_committed: config.read_committed,
            subscription: config.topics.join(",").into(),
        })
    }

    /// One turn: what the main queue has, then a batch of each partition. True when there was anything to do.
    fn turn(&mut self, owner: &mut dyn PartitionOwner) -> Result<bool, SourceFatal> {
        // Lowered before the look, so that what comes during it wakes us again.
        self.wakeup.lower();
        let mut did_any = false;
        for _ in 0..MAIN_EVENTS_MAX {
            let served = self.serve_main(Duration::ZERO, owner);
            did_any |= served | self.work_off(owner)?;
            if !served {
                break;
            }
        }
        if self.swept_at.elapsed() >= SWEEP_EVERY {
            self.swept_at = Instant::now();
            self.partitions.iter().for_each(|partition| partition.may_hold.store(true, Ordering::Relaxed));
        }
        let answers: Vec<Answer> = self.examiner.answers().collect();
        for answer in answers {
            did_any = true;
            self.take_answer(answer, owner)?;
        }
        self.ask_for_ids();
        let (mut gave_any, mut suspicions) = (false, Vec::new());
        for partition in &mut self.partitions {
            if partition.may_hold.load(Ordering::Acquire) {
                gave_any |= partition.give_batch(&self.consumer, owner);
                suspicions.extend(partition.take_suspicion());
            }
        }
        suspicions.into_iter().for_each(|suspicion| self.examine(suspicion));
        if gave_any {
            self.set_reachable(None, owner);
        }
        Ok(did_any | gave_any)
    }

    /// Polls the main queue once; true when it served anything.
    fn serve_main(&mut self, wait: Duration, owner: &mut dyn PartitionOwner) -> bool {
        let context = Arc::clone(self.consumer.context());
        let before = context.served();
        let polled = self.consumer.poll(wait);
        let served = polled.is_some() || context.served() != before;
        self.happened.extend(context.take().into_iter().map(Happened::Told));
        match polled {
            None => {}
            Some(Err(error)) => self.happened.push_back(Happened::Failed(error)),
            // Not expected, since every queue is split off in time. What has come all the same is given: it is not fetched again.
            Some(Ok(message)) => {
                let id = TopicPartition::new(message.topic(), message.partition());
                if let Some(partition) = self.partitions.iter_mut().find(|partition| partition.id == id) {
                    partition.next = Some(message.offset() + 1);
                    partition.standstill.moved();
                    owner.records(&id, record_of(&message).into_iter().collect());
                }
            }
        }
        served
    }

    /// Works off what has happened, in order; true when that was anything.
    fn work_off(&mut self, owner: &mut dyn PartitionOwner) -> Result<bool, SourceFatal> {
        let mut did_any = false;
        while let Some(happened) = self.happened.pop_front() {
            did_any = true;
            match happened {
                Happened::Told(Told::Assign(list)) => self.take_over(list, owner)?,
                Happened::Told(Told::Revoke(list)) => self.give_up(&list, owner)?,
                Happened::Told(Told::Committed(result, partitions)) => {
                    self.tell_committed(&result, partitions, owner);
                }
                Happened::Told(Told::Statistics(report)) => self.tell_figures(&report, owner),
                Happened::Failed(error) => self.tell_failure(&error, owner)?,
                Happened::NotCommitted(commit, reason) => owner.committed(commit, Err(reason)),
            }
        }
        Ok(did_any)
    }

    fn take_over(&mut self, mut list: TopicPartitionList, owner: &mut dyn PartitionOwner) -> Result<(), SourceFatal> {
        let ids: Vec<TopicPartition> = native::listed(&list)
            .into_iter()
            .map(|listed| TopicPartition::new(listed.topic, listed.partition))
            .collect();
        let committed = self.committed(&list);
        let mut logs = self.states(&ids)?;
        let mut assignments = Vec::with_capacity(ids.len());
        for (id, log) in ids.into_iter().zip(logs.drain(..)) {
            // An old handle that is dropped later would silence the new one: they share the queue.
            self.partitions.retain(|partition| partition.id != id);
            let committed = committed.iter().find(|commit| commit.partition == id).cloned();
            if let Some(commit) = &committed {
                list.set_partition_offset(&id.topic, id.partition, Offset::Offset(commit.offset)).map_err(fatal)?;
            }
            self.generation += 1;
            let next = committed.as_ref().map(|commit| commit.offset);
            let assignment = Assignment { partition: id.clone(), committed, log };
            let reading = (self.generation, assignment.log_id());
            let partition =
                AssignedPartition::split(&self.consumer, &self.wakeup, id, reading, next).map_err(SourceFatal)?;
            assignments.push(assignment);
            self.partitions.push(partition);
        }
        for (id, offset) in owner.assigned(assignments) {
            list.set_partition_offset(&id.topic, id.partition, Offset::Offset(offset)).map_err(fatal)?;
            if let Some(partition) = self.partitions.iter_mut().find(|partition| partition.id == id) {
                partition.next = Some(offset);
            }
        }
        assign(&self.consumer, &list).map_err(fatal)
    }

    /// What the logs of these are like, as far as the brokers say so in time.
    fn states(&mut self, ids: &[TopicPartition]) -> Result<Vec<Option<LogState>>, SourceFatal> {
        let deadline = Instant::now() + STATE_WAIT_MAX;
        let topics: BTreeSet<Arc<str>> = ids.iter().map(|id| Arc::clone(&id.topic)).collect();
        let topics: Vec<Arc<str>> = topics.into_iter().collect();
        let log_ids = native::topic_ids(&self.consumer, &topics, STATE_WAIT_MAX).unwrap_or_else(|error| {
            tracing::debug!(%error, "the topics' identities are not known");
            Default::default()
        });
        self.identities.meet(log_ids.iter().map(|(topic, id)| (topic.as_str(), id)))?;
        let state = |id: &TopicPartition| {
            let left = deadline.saturating_duration_since(Instant::now());
            let state = state_of(&self.consumer, id, log_ids.get(&*id.topic).cloned(), left);
            state.inspect_err(|reason| tracing::debug!(partition = %id, reason, "where the log ends is not known")).ok()
        };
        Ok(ids.iter().map(|id| (Instant::now() < deadline).then(|| state(id)).flatten()).collect())
    }

    fn ask_for_ids(&mut self) {
        let Some(topics) = self.identities.due(self.partitions.iter().map(|partition| &partition.id)) else { return };
        let is_asked = self.examiner.ask(&self.consumer, Question::Ids(topics));
        self.identities.set_asking(is_asked);
    }

    fn examine(&mut self, suspicion: Suspicion) {
        tracing::debug!(partition = %suspicion.partition, position = suspicion.position, evidence = suspicion.evidence, "examined");
        let partition = self.partitions.iter_mut().find(|partition| partition.generation == suspicion.generation);
        let is_asked = self.examiner.ask(&self.consumer, Question::Partition(suspicion));
        if let Some(partition) = partition {
            partition.is_examined = is_asked;
        }
    }

    fn take_answer(&mut self, answer: Answer, owner: &mut dyn PartitionOwner) -> Result<(), SourceFatal> {
        match answer {
            Answer::Ids(ids) => {
                self.identities.set_asking(false);
                self.identities.meet(ids.iter().map(|(topic, id)| (&**topic, id)))?;
                // Of the same log as this client's, and yet not of the one that was read: what was committed is of a former one.
                let suspicions: Vec<Suspicion> =
                    self.partitions.iter_mut().filter_map(|partition| partition.compare_id(&ids)).collect();
                suspicions.into_iter().for_each(|suspicion| self.examine(suspicion));
            }
            Answer::Partition(id, generation, finding) => {
                let consumer = Arc::clone(&self.consumer);
                let partition = self.partitions.iter_mut().find(|partition| partition.generation == generation);
                // Given up meanwhile: its next owner finds the same.
                let Some(partition) = partition.filter(|partition| partition.id == id) else { return Ok(()) };
                if let Finding::WentBack { log: LogState { id: Some(log_id), .. }, .. } = &finding {
                    self.identities.meet([(&*id.topic, log_id)])?;
                }
                partition.is_examined = false;
                if let Err(reason) = partition.act_on(finding, &consumer, owner) {
                    owner.event(SourceEvent::PartitionFailed(id, reason));
                }
            }
        }
        Ok(())
    }

    /// What was committed for these. Nothing when the broker does not say so in time: then the client itself begins at the
    /// committed offset, once it hears of it.
    fn committed(&self, list: &TopicPartitionList) -> Vec<Commit> {
        match self.consumer.committed_offsets(list.clone(), COMMITTED_WAIT_MAX) {
            Ok(committed) => native::listed(&committed)
                .into_iter()
                .filter(|listed| listed.error.is_none() && listed.offset >= 0)
                .map(Commit::from)
                .collect(),
            Err(error) => {
                tracing::warn!(%error, "the committed offsets are not known: beginning without the gaps above them");
                Vec::new()
            }
        }
    }

    fn give_up(&mut self, list: &TopicPartitionList, owner: &mut dyn PartitionOwner) -> Result<(), SourceFatal> {
        let ids: Vec<TopicPartition> = native::listed(list)
            .into_iter()
            .map(|listed| TopicPartition::new(listed.topic, listed.partition))
            .collect();
        if self.consumer.assignment_lost() {
            owner.lost(&ids);
        } else {
            let commits = owner.revoked(&ids);
            self.commit_and_wait(commits, owner);
        }
        self.partitions.retain(|partition| !ids.contains(&partition.id));
        unassign(&self.consumer, list).map_err(fatal)
    }

    /// The last commit before partitions are given up: they are not before its result is known, or its time is over.
    fn commit_and_wait(&mut self, commits: Vec<Commit>, owner: &mut dyn PartitionOwner) {
        let Some(first) = commits.first().cloned() else { return };
        self.commit(commits);
        let deadline = Instant::now() + LAST_COMMIT_WAIT_MAX;
        let is_ours = |happened: &Happened| match happened {
            Happened::Told(Told::Committed(_, listed)) => listed.iter().any(|listed| {
                (*listed.topic == *first.partition.topic)
                    && (listed.partition, listed.offset) == (first.partition.partition, first.offset)
            }),
            Happened::NotCommitted(commit, _) => *commit == first,
            _ => false,
        };
        while !self.happened.iter().any(is_ours) {
            if Instant::now() >= deadline {
                tracing::warn!(partition = %first.partition, "giving up partitions before their last commit was answered");
                return;
            }
            self.serve_main(STEP, owner);
        }
        // Results are told now, while whoever asked still knows the partitions; the rest keeps its turn.
        for happened in std::mem::take(&mut self.happened) {
            match happened {
                Happened::Told(Told::Committed(result, listed)) => self.tell_committed(&result, listed, owner),
                other => self.happened.push_back(other),
            }
        }
    }

    fn tell_committed(&mut self, all: &KafkaResult<()>, partitions: Vec<Listed>, owner: &mut dyn PartitionOwner) {
        if all.is_ok() {
            self.set_reachable(None, owner);
        }
        for listed in partitions {
            let result = match (listed.error, all) {
                (Some(code), _) => Err(code.to_string()),
                (None, Err(error)) => Err(error.to_string()),
                (None, Ok(())) => Ok(()),
            };
            owner.committed(Commit::from(listed), result);
        }
    }

    fn tell_figures(&mut self, report: &[u8], owner: &mut dyn PartitionOwner) {
        let figures = match statistics::figures(report, self.read_committed) {
            Ok(figures) => figures,
            Err(error) => return tracing::warn!(%error, "the client's statistics cannot be read"),
        };
        if figures.is_connected {
            self.set_reachable(None, owner);
        }
        let mut suspicions = Vec::new();
        for progress in figures.partitions {
            let place = |partition: &&mut AssignedPartition| {
                partition.id.partition == progress.partition && *partition.id.topic == *progress.topic
            };
            let Some(partition) = self.partitions.iter_mut().find(place) else { continue };
            let end = partition.end_of(&progress);
            owner.event(SourceEvent::HighWatermark(partition.id.clone(), end));
            partition.note_progress(&progress, owner);
            suspicions.extend(partition.take_suspicion());
        }
        suspicions.into_iter().for_each(|suspicion| self.examine(suspicion));
    }

    fn tell_failure(&mut self, error: &KafkaError, owner: &mut dyn PartitionOwner) -> Result<(), SourceFatal> {
        if let KafkaError::MessageConsumptionFatal(code) = error {
            let why = self.consumer.client().fatal_error().map_or_else(|| code.to_string(), |(_, reason)| reason);
            return Err(SourceFatal(why));
        }
        let reason = self.consumer.context().reason();
        let code = error.rdkafka_error_code();
        if code.is_some_and(is_unreachable) {
            // One broker of several that is away is no news as long as another one answers.
            if code == Some(RDKafkaErrorCode::AllBrokersDown) || self.is_reachable.is_none() {
                self.set_reachable(Some(reason), owner);
            }
        } else {
            let reason = if reason.is_empty() { error.to_string() } else { reason };
            let nowhere = TopicPartition { topic: Arc::clone(&self.subscription), partition: -1 };
            owner.event(SourceEvent::PartitionFailed(nowhere, reason));
        }
        Ok(())
    }

    /// Tells a change, and only a change.
    fn set_reachable(&mut self, failure: Option<String>, owner: &mut dyn PartitionOwner) {
        let is_reachable = failure.is_none();
        if self.is_reachable == Some(is_reachable) {
            return;
        }
        self.is_reachable = Some(is_reachable);
        owner.event(failure.map_or(SourceEvent::Reachable, SourceEvent::Unreachable));
    }

    fn try_commit(&self, commits: &[Commit]) -> Result<(), String> {
        let mut list = TopicPartitionList::with_capacity(commits.len());
        for commit in commits {
            let metadata = with_log_id(commit);
            if metadata.len() > METADATA_BYTES_MAX {
                return Err(format!("{} bytes of metadata are more than a broker takes", metadata.len()));
            }
            let TopicPartition { topic, partition } = &commit.partition;
            let mut element = list.add_partition(topic, *partition);
            element.set_offset(Offset::Offset(commit.offset)).map_err(|error| error.to_string())?;
            if !metadata.is_empty() {
                element.set_metadata(&metadata);
            }
        }
        native::commit_with_result(&self.consumer, &list).map_err(|code| code.to_string())
    }
}

impl LogSource for KafkaSource {
    fn poll(&mut self, wait: Duration, owner: &mut dyn PartitionOwner) -> Result<(), SourceFatal> {
        if self.turn(owner)? || wait.is_zero() {
            return Ok(());
        }
        let some_wait_for_credit = self.partitions.iter().any(|partition| partition.may_hold.load(Ordering::Acquire));
        let wait = if some_wait_for_credit { wait.min(CREDIT_EVERY) } else { wait.min(SWEEP_EVERY) };
        if self.wakeup.wait(wait) || some_wait_for_credit {
            self.turn(owner)?;
        }
        Ok(())
    }

    fn commit(&mut self, commits: Vec<Commit>) {
        // A broker takes a commit from any member: one that comes too late would throw the new owner's progress back.
        let is_ours = |commit: &Commit| self.partitions.iter().any(|partition| partition.id == commit.partition);
        let (ours, late): (Vec<Commit>, Vec<Commit>) = commits.into_iter().partition(is_ours);
        let late =
            late.into_iter().map(|commit| Happened::NotCommitted(commit, "the partition is not ours".to_owned()));
        self.happened.extend(late);
        if ours.is_empty() {
            return;
        }
        if let Err(reason) = self.try_commit(&ours) {
            self.happened.extend(ours.into_iter().map(|commit| Happened::NotCommitted(commit, reason.clone())));
        }
    }

    fn close(mut self: Box<Self>, owner: &mut dyn PartitionOwner) {
        self.consumer.unsubscribe();
        let deadline = Instant::now() + LEAVE_WAIT_MAX;
        // Without partitions there is nothing to give up; the client sees to the rest when it is dropped.
        while !self.partitions.is_empty() {
            self.serve_main(STEP, owner);
            if let Err(error) = self.work_off(owner) {
                return tracing::warn!(%error, "leaving the group");
            }
            if Instant::now() >= deadline {
                return tracing::warn!("left the group without its answer");
            }
        }
    }
}

impl Drop for KafkaSource {
    fn drop(&mut self) {
        self.consumer.context().leave();
        // A revocation that was noted but not carried out would keep the client from ending.
        self.happened.extend(self.consumer.context().take().into_iter().map(Happened::Told));
        self.partitions.clear();
        for happened in std::mem::take(&mut self.happened) {
            let done = match happened {
                Happened::Told(Told::Assign(list)) => assign(&self.consumer, &list),
                Happened::Told(Told::Revoke(list)) => unassign(&self.consumer, &list),
                _ => Ok(()),
            };
            if let Err(error) = done {
                tracing::debug!(%error, "rebalance while leaving the group");
            }
        }
    }
}

/// A commit's metadata as the broker keeps it: with the identity of the log before it, where that is known.
fn with_log_id(commit: &Commit) -> String {
    match &commit.log_id {
        Some(id) if id.len() + LOG_ID_PREFIX.len() < LOG_ID_BYTES_MAX => {
            format!("{LOG_ID_PREFIX}{id};{}", commit.metadata)
        }
        _ => commit.metadata.clone(),
    }
}

impl From<Listed> for Commit {
    fn from(listed: Listed) -> Self {
        let (log_id, metadata) = match listed.metadata.strip_prefix(LOG_ID_PREFIX).and_then(|rest| rest.split_once(';'))
        {
            Some((id, metadata)) => (Some(id.into()), metadata.to_owned()),
            None => (None, listed.metadata),
        };
        let partition = TopicPartition::new(listed.topic, listed.partition);
        Self { partition, offset: listed.offset, metadata, log_id }
    }
}

fn fatal(error: KafkaError) -> SourceFatal {
    SourceFatal(error.to_string())
}
