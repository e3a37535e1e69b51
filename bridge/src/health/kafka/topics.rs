//! Sees to it that the two health topics exist.
//!
//! **Owns** one thread, `health-topics`, that creates them through the admin API and then sleeps until somebody suspects that one is
//! missing (a broker that came back without its data). Until they were there once everybody waits for them: a consumer that begins
//! before its topic exists finds it late, and an original gateway never. **When the broker is away** it tries for ever, every
//! [`RETRY_MS`](super::wish::RETRY_MS), and says so once. It **does not** change topics that exist.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use thiserror::Error;

use super::clients::Clients;
use super::wish::{Shared, TopicsWish};
use crate::health::transport::TransportError;
use crate::health::wire::{PING_TOPIC, PONG_TOPIC};
use crate::kafka::settings::QuietContext;

/// How long one request of an attempt may take.
const REQUEST_MS_MAX: u64 = 2_000;

/// One partition: a service's instances share the pings, not the work.
const PARTITIONS: i32 = 1;

/// Copies on a cluster that has as many brokers; less on a smaller one.
const REPLICAS_MAX: i32 = 3;

/// Pings and pongs are worthless after seconds; ten minutes are kept for whoever looks at them.
const RETENTION_MS: &str = "600000";

/// Retention removes whole segments, so they are small: the least that every supported broker allows.
const SEGMENT_BYTES: &str = "1048576";

/// The thread that creates the topics. Dropping it stops the thread without waiting for it.
pub(super) struct TopicKeeper {
    shared: Arc<Shared>,
}

#[derive(Debug, Error)]
enum Attempt {
    #[error("the broker does not answer: {0}")]
    NoAnswer(KafkaError),
    #[error("the broker refused the topic {topic}: {code}")]
    Refused { topic: String, code: RDKafkaErrorCode },
    #[error("no runtime for the admin client: {0}")]
    NoRuntime(std::io::Error),
}

impl TopicKeeper {
    pub(super) fn start(clients: Clients) -> Result<Self, TransportError> {
        let shared = Arc::new(Shared::new());
        let theirs = Arc::clone(&shared);
        std::thread::Builder::new().name("health-topics".to_owned()).spawn(move || keep(&clients, &theirs))?;
        Ok(Self { shared })
    }

    pub(super) fn were_there(&self) -> bool {
        self.shared.lock().were_there
    }

    pub(super) fn wish(&self) -> TopicsWish {
        TopicsWish::new(Arc::clone(&self.shared))
    }
}

impl Drop for TopicKeeper {
    fn drop(&mut self) {
        self.shared.change(|state| state.stopped = true);
    }
}

fn keep(clients: &Clients, shared: &Shared) {
    loop {
        if !create_until_there(clients, shared) || shared.is_stopped_after_pause() || !shared.is_suspected() {
            return;
        }
    }
}

/// True when the topics are there, false when the thread shall end.
fn create_until_there(clients: &Clients, shared: &Shared) -> bool {
    let began = Instant::now();
    // later a broker that is away is the pinger's news
    let mut said = shared.lock().were_there;
    let mut waited_in_vain = false;
    let mut admin = None;
    loop {
        match create_missing(clients, &mut admin) {
            Ok(created) => {
                if waited_in_vain || !created.is_empty() {
                    let waited_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
                    tracing::info!(broker = clients.broker(), ?created, waited_ms, "health topics ready");
                }
                shared.change(|state| (state.were_there, state.suspected) = (true, false));
                return true;
            }
            Err(reason) if !said => {
                (said, waited_in_vain) = (true, true);
                tracing::warn!(broker = clients.broker(), %reason, "kafka not usable yet, going on without it and trying again in the background");
            }
            Err(reason) => tracing::debug!(%reason, "health topics still missing"),
        }
        if shared.is_stopped_after_pause() {
            return false;
        }
    }
}

/// The names of the topics that were created now.
fn create_missing(clients: &Clients, admin: &mut Option<AdminClient<QuietContext>>) -> Result<Vec<String>, Attempt> {
    let admin = match admin {
        Some(admin) => admin,
        None => admin.insert(clients.admin().map_err(Attempt::NoAnswer)?),
    };
    let patience = Duration::from_millis(REQUEST_MS_MAX);
    // asked for all topics, since asking for one by name would create it on many brokers, with the wrong settings
    let metadata = admin.inner().fetch_metadata(None, patience).map_err(Attempt::NoAnswer)?;
    let missing: Vec<_> = [PING_TOPIC, PONG_TOPIC]
        .map(|name| clients.topic(name))
        .into_iter()
        .filter(|name| !metadata.topics().iter().any(|topic| topic.name() == *name))
        .collect();
    if missing.is_empty() {
        return Ok(missing);
    }
    let replicas = i32::try_from(metadata.brokers().len()).unwrap_or(REPLICAS_MAX).clamp(1, REPLICAS_MAX);
    create(admin, &missing, replicas, patience)?;
    Ok(missing)
}

fn create(
    admin: &AdminClient<QuietContext>,
    names: &[String],
    replicas: i32,
    patience: Duration,
) -> Result<(), Attempt> {
    let topics: Vec<_> = names
        .iter()
        .map(|name| {
            NewTopic::new(name, PARTITIONS, TopicReplication::Fixed(replicas))
                .set("retention.ms", RETENTION_MS)
                .set("segment.bytes", SEGMENT_BYTES)
        })
        .collect();
    let options = AdminOptions::new().request_timeout(Some(patience)).operation_timeout(Some(patience));
    let runtime = tokio::runtime::Builder::new_current_thread().build().map_err(Attempt::NoRuntime)?;
    let results = runtime.block_on(admin.create_topics(&topics, &options)).map_err(Attempt::NoAnswer)?;
    for result in results {
        match result {
            // another process may have been faster
            Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
            Err((topic, code)) => return Err(Attempt::Refused { topic, code }),
        }
    }
    Ok(())
}
