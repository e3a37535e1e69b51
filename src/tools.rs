//! The commands that look at a running shop: `topics` and `dlq`. (`admin` is in [`crate::operator`].)
//!
//! They are processes of their own: they ask the shop's ports, and Kafka where there is one, and change nothing but what a
//! `dlq replay` brings back and what a `topics --acknowledge-loss` takes off the complaints.

use std::{
    fmt::Write as _,
    io::{IsTerminal, Write as _, stdout},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, anyhow, bail};
use bridge::engine::{dead_letter::DEAD_LETTER_SUFFIX, dead_letter_topic};
use bridge::kafka::{DeadLetters, KafkaClientSettings, KafkaSink, KafkaSinkConfig, Selection};
use bytes::Bytes;
use clap::Subcommand;
use contracts::Service;
use http_edge::{
    internal::{ACKNOWLEDGE_LOSS, DEAD_LETTERS, DeadLettersQuestion, REPLAY, ReplayQuestion},
    peers::{HouseKey, ask_once},
    shop::DeadLetter,
};
use serde::Deserialize;

use crate::{
    bus::watch::{self, RelayReading},
    config::Settings,
    operator::{self, Admin},
    recover,
    secret::Secret,
};

/// How long a process may take to answer.
const PATIENCE: Duration = Duration::from_secs(3);
/// How often the table is drawn again.
const AGAIN: Duration = Duration::from_secs(1);
/// The most dead letters that are shown or brought back at once.
const LETTERS_MAX: usize = 1_000;

/// What can be asked of a shop that runs.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// A live table of what the services hear: partition, lag, frontier, in flight, dead letters; Ctrl-C ends it
    Topics {
        /// Draw it once, and end
        #[arg(long)]
        once: bool,
        /// Records that were removed before they were taken in have been seen to: they are no complaint any more
        #[arg(long)]
        acknowledge_loss: bool,
    },
    /// What of the data does not fit together after a restore, a loss or a cut; of a shop that runs or of a stopped one
    Recover {
        /// Reconcile it: set positions, free stock and give back money that no order knows of. The shop must be stopped
        #[arg(long)]
        apply: bool,
    },
    /// The messages that could not be taken in
    #[command(subcommand)]
    Dlq(Dlq),
    /// Who administers the shop, whether it runs or not
    #[command(subcommand)]
    Admin(Admin),
}

/// What can be done about them.
#[derive(Debug, Subcommand)]
pub enum Dlq {
    /// List those of a topic
    List {
        /// The topic, with or without .dlq, such as inventory-commands; on the embedded bus a service, such as order-service
        topic: String,
    },
    /// Show one whole, or all of a key
    Show {
        /// The topic
        topic: String,
        /// Its place as `list` says, such as 0/12, or a key
        which: String,
    },
    /// Bring one, all of a key, or all back to where they came from, in order
    Replay {
        /// The topic
        topic: String,
        /// Its place as `list` says, a key, or `all`
        which: String,
    },
}

/// Runs a command.
///
/// # Errors
/// What was wrong, in one sentence.
pub async fn run(command: &Command, settings: &Settings) -> anyhow::Result<()> {
    match command {
        Command::Topics { acknowledge_loss: true, .. } => acknowledge_loss(settings).await,
        Command::Topics { once, .. } => topics(settings, *once).await,
        Command::Admin(admin) => operator::run(admin, settings).await,
        Command::Recover { apply } => recover::run(settings, *apply).await,
        Command::Dlq(dlq) => match KafkaClientSettings::from_env("microcommerce-dlq")? {
            Some(client) => on_kafka(dlq, client, settings).await,
            None => embedded(dlq, settings).await,
        },
    }
}

// ── topics ────────────────────────────────────────────────────────────────────────────────────────────────────────

#[derive(Deserialize)]
struct Reading {
    bus: String,
    services: Vec<ServiceReading>,
}

#[derive(Deserialize)]
struct ServiceReading {
    service: String,
    subscriptions: Vec<SubscriptionReading>,
    relay: Option<RelayReading>,
}

#[derive(Deserialize)]
struct SubscriptionReading {
    is_healthy: bool,
    complaints: Vec<String>,
    partitions: Vec<PartitionReading>,
}

#[derive(Deserialize)]
struct PartitionReading {
    topic: String,
    partition: i32,
    lag: Option<i64>,
    frontier: Option<i64>,
    in_flight: usize,
    waiting_for_retry: usize,
    received: u64,
    finished: u64,
    dead_letters: u64,
    halted: Option<String>,
    source_error: Option<String>,
}

async fn topics(settings: &Settings, once: bool) -> anyhow::Result<()> {
    let is_drawn_over = stdout().is_terminal() && !once;
    loop {
        let table = table(&readings(settings).await?);
        let mut out = stdout().lock();
        if is_drawn_over {
            // Home, and everything below it is gone.
            write!(out, "\x1b[H\x1b[2J")?;
        }
        writeln!(out, "{table}")?;
        drop(out);
        if once {
            return Ok(());
        }
        tokio::select! {
            () = tokio::time::sleep(AGAIN) => {}
            _ = tokio::signal::ctrl_c() => return Ok(()),
        }
    }
}

/// Tells each service that what its topics lost has been seen to.
async fn acknowledge_loss(settings: &Settings) -> anyhow::Result<()> {
    let shop = Embedded { settings, key: HouseKey::new(&secret(settings)?.key("house")) };
    for (service, _) in &settings.services {
        let ranges: usize = shop.ask(*service, ACKNOWLEDGE_LOSS, b"{}".to_vec()).await?;
        writeln!(stdout(), "{service}: {ranges} ranges of lost records acknowledged")?;
    }
    Ok(())
}

/// What the processes of the shop say: one that runs all of it, or each of the services.
async fn readings(settings: &Settings) -> anyhow::Result<Vec<Reading>> {
    let ports = settings.gateway.iter().chain(settings.services.iter().map(|(_, setting)| setting));
    let asked = ports.map(|setting| {
        let url = format!("http://{}:{}/bus", settings.host, setting.port);
        async move { ask_once(&url, None, PATIENCE).await }
    });
    let answers = futures::future::join_all(asked).await;
    let mut readings: Vec<Reading> = Vec::new();
    for answer in answers.iter().flatten() {
        let reading: Reading = serde_json::from_slice(answer).context("a process answers in other words than ours")?;
        let is_new = |service: &ServiceReading| {
            !readings.iter().any(|known| known.services.iter().any(|other| other.service == service.service))
        };
        if reading.services.iter().any(is_new) {
            readings.push(reading);
        }
    }
    if readings.is_empty() {
        let reasons: Vec<String> = answers.into_iter().filter_map(Result::err).collect();
        bail!("no process of the shop answers: {}", reasons.join("; "));
    }
    Ok(readings)
}

fn table(readings: &[Reading]) -> String {
    let mut text = String::new();
    let mut line = |words: std::fmt::Arguments<'_>| {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{words}");
    };
    line(format_args!("bus: {}", readings.first().map_or("?", |reading| &reading.bus)));
    line(format_args!(
        "{:<16} {:<28} {:>4} {:>9} {:>12} {:>9} {:>7} {:>10} {:>10} {:>5}  state",
        "service", "topic", "part", "lag", "frontier", "in flight", "retries", "received", "finished", "dead"
    ));
    for service in readings.iter().flat_map(|reading| &reading.services) {
        for partition in service.subscriptions.iter().flat_map(|subscription| &subscription.partitions) {
            let number = |number: Option<i64>| number.map_or_else(|| "-".to_owned(), |number| number.to_string());
            let state = match (&partition.halted, &partition.source_error) {
                (Some(reason), _) => format!("halted: {reason}"),
                (None, Some(error)) => error.clone(),
                (None, None) => "reads".to_owned(),
            };
            line(format_args!(
                "{:<16} {:<28} {:>4} {:>9} {:>12} {:>9} {:>7} {:>10} {:>10} {:>5}  {state}",
                service.service,
                partition.topic,
                partition.partition,
                number(partition.lag),
                number(partition.frontier),
                partition.in_flight,
                partition.waiting_for_retry,
                partition.received,
                partition.finished,
                partition.dead_letters,
            ));
        }
        if let Some(relay) = &service.relay {
            line(format_args!(
                "{:<16} {:<28} {:>4} {:>9} {:>12} {:>9} {:>7} {:>10} {:>10} {:>5}  {}",
                service.service,
                "relay: journal to Kafka",
                "-",
                relay.lag,
                "-",
                relay.in_flight,
                relay.parked_keys,
                "-",
                relay.written,
                relay.set_aside,
                if relay.is_running { "writes" } else { "does not run" },
            ));
        }
        let unwell = service.subscriptions.iter().filter(|subscription| !subscription.is_healthy);
        for complaint in unwell.flat_map(|subscription| &subscription.complaints) {
            line(format_args!("  ! {}: {complaint}", service.service));
        }
    }
    text.pop();
    text
}

// ── dead letters ──────────────────────────────────────────────────────────────────────────────────────────────────

impl Dlq {
    fn topic(&self) -> &str {
        let (Self::List { topic } | Self::Show { topic, .. } | Self::Replay { topic, .. }) = self;
        topic.strip_suffix(DEAD_LETTER_SUFFIX).unwrap_or(topic)
    }
}

async fn on_kafka(dlq: &Dlq, client: KafkaClientSettings, settings: &Settings) -> anyhow::Result<()> {
    let prefix = &settings.topic_prefix;
    let topic = match dlq.topic() {
        topic if topic.starts_with(prefix) => topic.to_owned(),
        topic => format!("{prefix}{topic}"),
    };
    let letters = DeadLetters::new(client.clone());
    match dlq {
        Dlq::List { .. } => list(&kafka_letters(&letters, &topic, &Selection::All).await?)?,
        Dlq::Show { which, .. } => show(&kafka_letters(&letters, &topic, &selection(which)).await?)?,
        Dlq::Replay { which, .. } => {
            let config = KafkaSinkConfig { compression: settings.kafka_compression, ..KafkaSinkConfig::new(client) };
            let sink = Arc::new(KafkaSink::start(config)?);
            let replayed = letters.replay(&topic, &selection(which), LETTERS_MAX, sink).await?;
            print(format_args!("{replayed} brought back to {topic}"))?;
        }
    }
    Ok(())
}

fn selection(which: &str) -> Selection {
    let place = which.split_once('/').and_then(|(partition, offset)| {
        Some(Selection::One { partition: partition.parse().ok()?, offset: offset.parse().ok()? })
    });
    match place {
        Some(place) => place,
        None if which == "all" => Selection::All,
        None => Selection::Key(Bytes::copy_from_slice(which.as_bytes())),
    }
}

async fn kafka_letters(letters: &DeadLetters, topic: &str, which: &Selection) -> anyhow::Result<Vec<DeadLetter>> {
    let records = letters.list(topic, which, LETTERS_MAX).await?;
    let group = |record: &bridge::record::Record| {
        let group = record.headers.text(bridge::engine::dead_letter::GROUP).ok().flatten().unwrap_or("?");
        group.rsplit('.').next().unwrap_or(group).to_owned()
    };
    let shown = |record: &bridge::record::Record| {
        watch::shown(format!("{}/{}", record.partition, record.offset), &group(record), record)
    };
    Ok(records.iter().map(shown).collect())
}

async fn embedded(dlq: &Dlq, settings: &Settings) -> anyhow::Result<()> {
    let house = Embedded { settings, key: HouseKey::new(&secret(settings)?.key("house")) };
    let topic = dead_letter_topic(dlq.topic()).to_string();
    let letters = house.letters(&topic).await?;
    let chosen = |which: &str| -> Vec<DeadLetter> {
        let is_chosen =
            |letter: &&DeadLetter| which == "all" || letter.key.as_deref() == Some(which) || letter.place == which;
        letters.iter().filter(is_chosen).cloned().collect()
    };
    match dlq {
        Dlq::List { .. } => list(&letters)?,
        Dlq::Show { which, .. } => show(&chosen(which))?,
        Dlq::Replay { which, .. } => {
            let wanted = chosen(which);
            if wanted.is_empty() {
                bail!("there is no such dead letter of {topic}, or it was brought back");
            }
            for letter in &wanted {
                house.replay(&topic, letter).await?;
            }
            print(format_args!("{} brought back", wanted.len()))?;
        }
    }
    Ok(())
}

pub(crate) fn secret(settings: &Settings) -> anyhow::Result<Secret> {
    match &settings.secret_key {
        Some(text) => Ok(Secret::given(text)),
        None => Secret::load(&settings.secret_file()).map_err(|error| {
            anyhow!("{}: {error}; DATA_DIR must be that of the running shop", settings.secret_file().display())
        }),
    }
}

/// The processes of a shop, asked over their own ports: for dead letters on the embedded bus, which they keep, and for what only they know.
struct Embedded<'a> {
    settings: &'a Settings,
    key: HouseKey,
}

impl Embedded<'_> {
    async fn letters(&self, topic: &str) -> anyhow::Result<Vec<DeadLetter>> {
        let mut letters = Vec::new();
        for service in Service::ALL {
            let question = DeadLettersQuestion { topic: topic.to_owned() };
            let answer: Result<Vec<DeadLetter>, String> =
                self.ask(service, DEAD_LETTERS, serde_json::to_vec(&question)?).await?;
            let of_service = answer.map_err(|reason| anyhow!("{service}: {reason}"))?;
            letters.extend(
                of_service
                    .into_iter()
                    .map(|letter| DeadLetter { place: format!("{service}/{}", letter.place), ..letter }),
            );
        }
        Ok(letters)
    }

    async fn replay(&self, topic: &str, letter: &DeadLetter) -> anyhow::Result<()> {
        let service = Service::named(&letter.service).context("a dead letter of no service")?;
        let number = letter.place.rsplit('/').next().unwrap_or_default().parse()?;
        let question = ReplayQuestion { topic: topic.to_owned(), number };
        let answer: Result<(), String> = self.ask(service, REPLAY, serde_json::to_vec(&question)?).await?;
        answer.map_err(|reason| anyhow!("{}: {reason}", letter.place))
    }

    async fn ask<T: for<'de> Deserialize<'de>>(
        &self,
        service: Service,
        question: &str,
        body: Vec<u8>,
    ) -> anyhow::Result<T> {
        let (_, setting) = self.settings.services.iter().find(|(known, _)| *known == service).context("a port")?;
        let url = format!("http://{}:{}/internal/v1/{question}", self.settings.host, setting.port);
        let answer = ask_once(&url, Some((&self.key, body)), PATIENCE).await;
        let answer = answer.map_err(|reason| anyhow!("the shop does not answer: {reason}"))?;
        Ok(serde_json::from_slice(&answer)?)
    }
}

fn list(letters: &[DeadLetter]) -> anyhow::Result<()> {
    for letter in letters {
        let key = letter.key.as_deref().unwrap_or("-");
        print(format_args!("{}\tkey {key}\t{}\t{}: {}", letter.place, letter.service, letter.kind, letter.error))?;
    }
    print(format_args!("{} dead letters", letters.len()))
}

fn show(letters: &[DeadLetter]) -> anyhow::Result<()> {
    if letters.is_empty() {
        bail!("there is no such dead letter");
    }
    for letter in letters {
        print(format_args!("{}\tkey {}", letter.place, letter.key.as_deref().unwrap_or("-")))?;
        for (name, value) in &letter.headers {
            print(format_args!("  {name}: {value}"))?;
        }
        print(format_args!("  {}", letter.value.as_deref().unwrap_or("(no value)")))?;
    }
    Ok(())
}

/// A line of a command's answer. Here it is what the process is for: a command whose answer cannot be written has failed, and
/// one whose reader has left ends quietly.
fn print(line: std::fmt::Arguments<'_>) -> anyhow::Result<()> {
    writeln!(stdout().lock(), "{line}")?;
    Ok(())
}
