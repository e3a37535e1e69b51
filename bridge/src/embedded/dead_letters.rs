//! Dead letters of the embedded bus: kept in the subscriber's own journal, where an operator lists and replays them.
//!
//! A dead letter is an event of the stream `dead-letter/<topic>.dlq`; its version is its number. It is acknowledged when it
//! is committed. One task writes them one after another; when the journal closes, what is queued is answered "not now" and
//! the engine tries again. A replay runs the work once and, when that went well, marks the letter: a crash in between leaves
//! it unmarked, and the work must recognise its repetition, as ever.

use std::{collections::HashMap, future::Future, str, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::{FutureExt, future::BoxFuture};
use runtime::{
    CommandId, Journal, JournalError,
    journal::{Append, Fence, NewEvent},
};
use serde::{Deserialize, Serialize};
use tokio::{
    runtime::Handle,
    sync::{mpsc, oneshot},
    time::timeout,
};

use crate::{
    engine::{
        clock::Clock,
        dead_letter::{NoOriginal, replay},
    },
    ports::{Acknowledge, LogSink, NotTaken, SinkError, Written},
    record::{Header, Headers, OutgoingRecord, Record},
};

/// Dead letters on their way to the journal.
const QUEUED_MAX: usize = 1_024;
/// Times that a number is looked up again because somebody else took it.
const NUMBER_TRIES_MAX: u32 = 3;
const KEPT: &str = "dead_letter.kept";
const REPLAYED: &str = "dead_letter.replayed";
/// Of the payloads below.
const SCHEMA: u32 = 1;

/// A dead letter as it is kept.
#[derive(Clone, Debug)]
pub struct KeptDeadLetter {
    /// Its number in its topic.
    pub number: u64,
    /// The dead letter, with the headers that [`dead_letter`](crate::engine::dead_letter) describes.
    pub record: Record,
    /// True once a replay of it went well.
    pub is_replayed: bool,
}

/// Why a replay did not happen.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// There is no such dead letter.
    #[error("there is no dead letter {0} of this topic")]
    Unknown(u64),
    /// What is kept there is none.
    #[error(transparent)]
    NoOriginal(#[from] NoOriginal),
    /// The work failed again.
    #[error("it failed again: {0}")]
    Failed(String),
    /// The journal failed.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The writer is gone.
    #[error("the dead letters are closed")]
    Closed,
}

/// Bytes as JSON: text where they are text.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Text {
    Text(String),
    Bytes(Vec<u8>),
}

impl Text {
    fn of(bytes: &Bytes) -> Self {
        str::from_utf8(bytes).map_or_else(|_| Self::Bytes(bytes.to_vec()), |text| Self::Text(text.to_owned()))
    }

    fn bytes(self) -> Bytes {
        match self {
            Self::Text(text) => text.into(),
            Self::Bytes(bytes) => bytes.into(),
        }
    }
}

#[derive(Serialize, Deserialize)]
struct Kept {
    key: Option<Text>,
    value: Option<Text>,
    headers: Vec<(Text, Option<Text>)>,
}

#[derive(Serialize, Deserialize)]
struct Replayed {
    number: u64,
}

enum Request {
    Keep(OutgoingRecord, Acknowledge),
    Mark { topic: Arc<str>, number: u64, reply: oneshot::Sender<Result<(), JournalError>> },
    Flush(oneshot::Sender<()>),
}

/// See the module's text.
pub struct JournalDeadLetters {
    home: Arc<dyn Journal>,
    requests: mpsc::Sender<Request>,
}

impl JournalDeadLetters {
    /// The dead letters in `home`, written by a task on `runtime` that ends when this is dropped.
    #[must_use]
    pub fn new(home: Arc<dyn Journal>, runtime: &Handle) -> Self {
        let (requests, queue) = mpsc::channel(QUEUED_MAX);
        runtime.spawn(Writer { home: Arc::clone(&home), versions: HashMap::new() }.run(queue));
        Self { home, requests }
    }

    /// The dead letters of a topic (`<topic>.dlq`), all of them, in order.
    ///
    /// # Errors
    /// [`JournalError`].
    pub async fn list(&self, topic: &str) -> Result<Vec<KeptDeadLetter>, JournalError> {
        let mut letters: Vec<KeptDeadLetter> = Vec::new();
        for event in self.home.events(stream_of(topic)).await? {
            let corrupt = |error: serde_json::Error| JournalError::Corrupt(format!("{}: {error}", event.stream));
            if event.event_type == REPLAYED {
                let Replayed { number } = serde_json::from_str(&event.payload).map_err(corrupt)?;
                let replayed = letters.iter_mut().find(|letter| letter.number == number);
                replayed.into_iter().for_each(|letter| letter.is_replayed = true);
                continue;
            }
            let Kept { key, value, headers } = serde_json::from_str(&event.payload).map_err(corrupt)?;
            let header =
                |(name, value): (Text, Option<Text>)| Header { name: name.bytes(), value: value.map(Text::bytes) };
            let record = Record {
                topic: topic.into(),
                partition: 0,
                offset: event.version as i64,
                timestamp_ms: Some(event.at_ms),
                key: key.map(Text::bytes),
                value: value.map(Text::bytes),
                headers: Headers::new(headers.into_iter().map(header).collect()),
            };
            letters.push(KeptDeadLetter { number: event.version, record, is_replayed: false });
        }
        Ok(letters)
    }

    /// Gives the original record of a dead letter to `work`, and marks the letter when that went well.
    ///
    /// # Errors
    /// [`ReplayError`]; the letter is marked only where there is none.
    pub async fn replay<F, Fut>(&self, topic: &str, number: u64, work: F) -> Result<(), ReplayError>
    where
        F: FnOnce(OutgoingRecord) -> Fut,
        Fut: Future<Output = Result<(), String>>,
    {
        let letters = self.list(topic).await?;
        let letter = letters.into_iter().find(|letter| letter.number == number);
        let original = replay(&letter.ok_or(ReplayError::Unknown(number))?.record)?;
        work(original).await.map_err(ReplayError::Failed)?;
        let (reply, marked) = oneshot::channel();
        let request = Request::Mark { topic: topic.into(), number, reply };
        self.requests.send(request).await.map_err(|_| ReplayError::Closed)?;
        Ok(marked.await.map_err(|_| ReplayError::Closed)??)
    }
}

impl LogSink for JournalDeadLetters {
    fn send(&self, record: &OutgoingRecord, acknowledge: Acknowledge) -> Result<(), NotTaken> {
        let not_taken = |request, error| match request {
            Request::Keep(_, acknowledge) => Err(NotTaken { acknowledge, error }),
            Request::Mark { .. } | Request::Flush(_) => Ok(()),
        };
        match self.requests.try_send(Request::Keep(record.clone(), acknowledge)) {
            Ok(()) => Ok(()),
            Err(mpsc::error::TrySendError::Full(request)) => not_taken(request, SinkError::Full),
            Err(mpsc::error::TrySendError::Closed(request)) => {
                not_taken(request, SinkError::Unavailable("the dead letters are closed".to_owned()))
            }
        }
    }

    fn room(&self) -> BoxFuture<'static, ()> {
        let requests = self.requests.clone();
        async move { drop(requests.reserve().await) }.boxed()
    }

    fn flush(&self, deadline: Duration) -> BoxFuture<'static, bool> {
        let requests = self.requests.clone();
        async move {
            let (reply, flushed) = oneshot::channel();
            let flush = async {
                requests.send(Request::Flush(reply)).await.ok()?;
                flushed.await.ok()
            };
            timeout(deadline, flush).await.ok().flatten().is_some()
        }
        .boxed()
    }
}

/// The one who knows the next number of each stream.
struct Writer {
    home: Arc<dyn Journal>,
    /// The last version of each stream written to.
    versions: HashMap<Arc<str>, u64>,
}

impl Writer {
    async fn run(mut self, mut queue: mpsc::Receiver<Request>) {
        while let Some(request) = queue.recv().await {
            match request {
                Request::Keep(record, acknowledge) => {
                    let written = self.keep(&record).await;
                    acknowledge(written.map_err(|error| SinkError::Unavailable(error.to_string())));
                }
                Request::Mark { topic, number, reply } => {
                    let payload = json(&Replayed { number });
                    let written = self.append(stream_of(&topic), REPLAYED, payload).await;
                    // One who no longer waits does not mind.
                    let _ = reply.send(written.map(|_| ()));
                }
                Request::Flush(reply) => {
                    let _ = reply.send(());
                }
            }
        }
    }

    async fn keep(&mut self, record: &OutgoingRecord) -> Result<Written, JournalError> {
        let header = |header: &Header| (Text::of(&header.name), header.value.as_ref().map(Text::of));
        let kept = Kept {
            key: record.key.as_ref().map(Text::of),
            value: record.value.as_ref().map(Text::of),
            headers: record.headers.as_slice().iter().map(header).collect(),
        };
        let version = self.append(stream_of(&record.topic), KEPT, json(&kept)).await?;
        Ok(Written { partition: 0, offset: version as i64 })
    }

    /// Appends one event, at the version that the stream has come to.
    async fn append(
        &mut self,
        stream: Arc<str>,
        event_type: &'static str,
        payload: Result<String, JournalError>,
    ) -> Result<u64, JournalError> {
        let payload = payload?;
        let mut tries = 0;
        loop {
            tries += 1;
            let last = match self.versions.get(&stream) {
                Some(version) => *version,
                None => self.home.load(Arc::clone(&stream), 0).await?.tail.last().map_or(0, |event| event.version),
            };
            match self.append_at(&stream, last + 1, event_type, payload.clone()).await {
                Ok(()) => {
                    self.versions.insert(stream, last + 1);
                    return Ok(last + 1);
                }
                Err(JournalError::Conflict(_)) if tries < NUMBER_TRIES_MAX => drop(self.versions.remove(&stream)),
                Err(error) => {
                    self.versions.remove(&stream);
                    return Err(error);
                }
            }
        }
    }

    async fn append_at(
        &self,
        stream: &Arc<str>,
        version: u64,
        event_type: &'static str,
        payload: String,
    ) -> Result<(), JournalError> {
        let (reply, settled) = oneshot::channel();
        self.home.append(Append {
            stream: Arc::clone(stream),
            first_version: version,
            events: vec![NewEvent { event_type, payload, published_before: None }],
            schema: SCHEMA,
            refusal: None,
            command_id: CommandId::of(&["dead-letter", stream, &version.to_string()]),
            at_ms: Clock::start().now_ms(),
            correlation_id: None,
            causation_id: None,
            traceparent: None,
            actor: None,
            views: Vec::new(),
            snapshot: None,
            fence: Arc::new(Fence::default()),
            settle: Box::new(move |outcome| drop(reply.send(outcome))),
        });
        settled.await.unwrap_or(Err(JournalError::Closed))
    }
}

fn stream_of(topic: &str) -> Arc<str> {
    format!("dead-letter/{topic}").into()
}

fn json(payload: &impl Serialize) -> Result<String, JournalError> {
    serde_json::to_string(payload).map_err(|error| JournalError::Query(error.to_string()))
}
