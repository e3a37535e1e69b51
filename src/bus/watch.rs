//! How the bus is, for operators: complaints for `/readyz`, numbers for `/metrics`, a reading for `/bus` and the
//! `topics` command.

use std::sync::Arc;

use bridge::{
    embedded::dead_letters::KeptDeadLetter,
    engine::{
        dead_letter::{ERROR, ERROR_KIND},
        health::{PartitionHealth, SubscriptionHealth},
    },
    record::{OutgoingRecord, Record},
    relay::RelayHealth,
};
use contracts::Service;
use futures::{FutureExt, future::BoxFuture};
use http_edge::{
    metrics::{Kind, Sample},
    shop::{BusWatch, DeadLetter},
};
use order_service::DebtTotals;
use runtime::journal::{JournalHealth, Trouble};
use serde::{Deserialize, Serialize};

use super::{embedded::SetAside, take_in_again};
use crate::{house::House, recover};

/// A dead letter for people.
pub fn shown(place: String, service: &str, letter: &Record) -> DeadLetter {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let header = |name| letter.headers.get(name).map_or_else(|| "?".to_owned(), |value| text(value));
    DeadLetter {
        place,
        service: service.to_owned(),
        key: letter.key.as_deref().map(text),
        kind: header(ERROR_KIND),
        error: header(ERROR),
        value: letter.value.as_deref().map(text),
        headers: letter
            .headers
            .as_slice()
            .iter()
            .map(|header| (text(&header.name), header.value.as_deref().map(text).unwrap_or_default()))
            .collect(),
    }
}

/// A record that has waited for the log for longer than this is worth a complaint, in milliseconds.
const WRITE_LATE_MS: u64 = 5_000;

/// How the bus of one process is. Its JSON is the answer of `GET /bus`.
#[derive(Debug, Serialize)]
struct Reading {
    /// `embedded`, or where Kafka is.
    bus: String,
    services: Vec<ServiceReading>,
}

#[derive(Debug, Serialize)]
struct ServiceReading {
    service: &'static str,
    subscriptions: Vec<SubscriptionHealth>,
    relay: Option<RelayReading>,
}

/// What the `topics` command shows of a relay.
#[derive(Debug, Serialize, Deserialize)]
pub struct RelayReading {
    /// It is at work.
    pub is_running: bool,
    /// Positions of the journal that are not known to be written.
    pub lag: u64,
    /// Records on their way.
    pub in_flight: usize,
    /// Keys that wait after a failure.
    pub parked_keys: usize,
    /// Records written since the start.
    pub written: u64,
    /// Records sent again since the start.
    pub retries: u64,
    /// Records set aside since the start.
    pub set_aside: u64,
    /// The last failure.
    pub last_error: Option<String>,
}

/// Watches the bus of a house.
pub struct Watch(Arc<House>);

impl Watch {
    pub fn new(house: Arc<House>) -> Self {
        Self(house)
    }

    fn subscriptions(&self, service: Service) -> Vec<SubscriptionHealth> {
        self.0.bridge(service).get().map(|bridge| bridge.health()).unwrap_or_default()
    }

    fn relay(&self, service: Service) -> Option<RelayHealth> {
        self.0.kafka.as_ref().map(|bus| bus.relay(service).health())
    }

    /// What is damaged in a service's databases. It is served from as far as that goes, and does not count as well.
    fn damage_of(&self, service: Service) -> Vec<String> {
        let books = (service == Service::Payment).then_some(&self.0.books);
        let journals = std::iter::once(self.0.journal(service)).chain(books);
        let damage = journals.filter_map(|journal| journal.get().ok()?.damage().borrow().clone());
        damage.map(|what| format!("{service}: its database is damaged ({what}): restore it from a backup")).collect()
    }

    /// The databases of a service.
    fn journals_of(&self, service: Service) -> Vec<(&'static str, JournalHealth)> {
        let books = (service == Service::Payment).then_some(("sandbox-provider", &self.0.books));
        let journals = std::iter::once((service.name(), self.0.journal(service))).chain(books);
        journals.filter_map(|(name, place)| Some((name, place.get().ok()?.health()))).collect()
    }

    /// What keeps a service from writing. Without room it still answers whoever only reads, so that is for `/metrics` and the log: a
    /// balancer that took it for dead would end that as well.
    fn busy_journals_of(&self, service: Service) -> Vec<String> {
        let busy = self.journals_of(service).into_iter().filter_map(|(name, health)| match health.trouble {
            Some((trouble @ Trouble::Busy, since)) => {
                Some(format!("{name}: {}, for {} s", trouble.text(), since.as_secs()))
            }
            Some((Trouble::Full, _)) | None => None,
        });
        busy.collect()
    }

    /// What is wrong with a service's messages. On the embedded bus another service that falls is that service's trouble;
    /// only what stands still is the reader's.
    pub fn complaints_of(&self, service: Service) -> Vec<String> {
        let mut complaints = self.damage_of(service);
        complaints.extend(self.busy_journals_of(service));
        let contradictions = self.0.contradictions(service).into_iter();
        complaints.extend(contradictions.map(|reason| format!("{service}'s data does not fit together: {reason}")));
        if self.0.kafka.as_ref().is_some_and(|bus| !bus.has_topics()) {
            complaints.push("the topics are not there yet".to_owned());
        }
        for subscription in self.subscriptions(service) {
            match &self.0.kafka {
                Some(_) => complaints.extend(subscription.complaints.iter().map(|text| format!("{service}: {text}"))),
                None => complaints.extend(subscription.partitions.iter().filter_map(|partition| {
                    let stall = partition.stall.as_ref()?;
                    Some(format!(
                        "{service}: what {} says is not taken in, for {} s ({})",
                        partition.topic,
                        stall.for_ms / 1_000,
                        stall.error.as_deref().unwrap_or(stall.state)
                    ))
                })),
            }
        }
        if let Some(relay) = self.relay(service).filter(|relay| !relay.is_running) {
            let reason =
                relay.last_error.unwrap_or_else(|| "it has not compared its log with its topics yet".to_owned());
            complaints.push(format!("{service}: its relay does not run: {reason}"));
        }
        if let Some(relay) = self.relay(service)
            && let Some(parked) = relay.longest_parked
            && parked.waiting_ms >= WRITE_LATE_MS
        {
            complaints.push(format!(
                "{service}: a record for {} has waited for {} s: {}",
                parked.topic,
                parked.waiting_ms / 1_000,
                parked.reason
            ));
        }
        complaints
    }
}

impl BusWatch for Watch {
    fn complaints(&self, services: &[Service]) -> Vec<String> {
        let mut complaints = Vec::new();
        if let Err(unreachable) = self.0.board.reader().report() {
            complaints.push(format!("the message bus cannot be reached: {unreachable}"));
        }
        let here = self.0.settings.role.services();
        let asked = services.iter().filter(|service| here.contains(service));
        complaints.extend(asked.flat_map(|service| self.complaints_of(*service)));
        complaints.dedup();
        complaints
    }

    fn reading(&self) -> Result<String, serde_json::Error> {
        let bus = match &self.0.kafka {
            Some(bus) => format!("Kafka at {}", bus.settings().brokers),
            None => "embedded".to_owned(),
        };
        let service = |service: Service| ServiceReading {
            service: service.name(),
            subscriptions: self.subscriptions(service),
            relay: self.relay(service).map(RelayReading::from),
        };
        let services = self.0.settings.role.services().into_iter().map(service).collect();
        serde_json::to_string(&Reading { bus, services })
    }

    fn dead_letters<'a>(&'a self, service: Service, topic: &'a str) -> BoxFuture<'a, Result<Vec<DeadLetter>, String>> {
        async move {
            let set_aside = self.0.set_aside(service).get().map_err(|down| down.to_string())?;
            let letters = set_aside.letters.list(topic).await.map_err(|error| error.to_string())?;
            // What was brought back is nobody's work any more.
            let open = letters.into_iter().filter(|letter| !letter.is_replayed);
            let shown = |letter: KeptDeadLetter| shown(letter.number.to_string(), service.name(), &letter.record);
            Ok(open.map(shown).collect())
        }
        .boxed()
    }

    fn replay<'a>(&'a self, service: Service, topic: &'a str, number: u64) -> BoxFuture<'a, Result<(), String>> {
        async move {
            let SetAside { letters, inbox } = self.0.set_aside(service).get().map_err(|down| down.to_string())?;
            let take_in = |original: OutgoingRecord| async move { take_in_again(&inbox, original.value).await };
            letters.replay(topic, number, take_in).await.map_err(|error| error.to_string())
        }
        .boxed()
    }

    fn acknowledge_loss(&self, service: Service) -> usize {
        let acknowledged = self.0.bridge(service).get().map_or(0, |bridge| bridge.acknowledge_loss());
        if acknowledged > 0 {
            tracing::warn!(%service, ranges = acknowledged, "lost records were acknowledged by an operator");
        }
        acknowledged
    }

    fn recovery(&self) -> BoxFuture<'_, Result<Vec<String>, String>> {
        recover::report(&self.0).boxed()
    }

    fn samples(&self, services: &[Service]) -> Vec<Sample> {
        let here = self.0.settings.role.services();
        let mut samples = Vec::new();
        for service in services.iter().filter(|service| here.contains(service)) {
            for (journal, health) in self.journals_of(*service) {
                samples.extend(samples_of_journal(*service, journal, &health));
            }
            for subscription in self.subscriptions(*service) {
                let labels =
                    vec![("service", service.name().to_owned()), ("subscription", subscription.name.to_string())];
                let mut sample = |name, kind, help, value| {
                    samples.push(Sample { name, kind, help, labels: labels.clone(), value });
                };
                sample("bus_healthy", Kind::Gauge, "1 while a subscription is well.", subscription.is_healthy.into());
                sample(
                    "bus_stale_answers_total",
                    Kind::Counter,
                    "Answers that came after their partition was given up.",
                    subscription.stale_completions,
                );
                let losses = subscription.losses;
                sample(
                    "bus_lost_records_total",
                    Kind::Counter,
                    "Records that were removed before they were taken in.",
                    losses.lost,
                );
                sample(
                    "bus_unreadable_records_total",
                    Kind::Counter,
                    "Records that could not be read and went to the dead letters.",
                    losses.unreadable,
                );
                sample("bus_logs_went_back_total", Kind::Counter, "Logs that were read again.", losses.went_back);
                sample(
                    "bus_lost_ranges",
                    Kind::Gauge,
                    "Ranges of lost records that nobody has acknowledged.",
                    subscription.lost_ranges.len() as u64,
                );
                sample("bus_drains_total", Kind::Counter, "Partitions' drains.", subscription.drains);
                for partition in &subscription.partitions {
                    samples.extend(samples_of(*service, partition));
                }
            }
            if *service == Service::Order
                && let Ok(orders) = self.0.orders.get()
            {
                samples.extend(samples_of_debts(orders.debt_totals()));
            }
            if let Some(relay) = self.relay(*service) {
                let labels = vec![("service", service.name().to_owned())];
                let mut sample = |name, kind, help, value| {
                    samples.push(Sample { name, kind, help, labels: labels.clone(), value });
                };
                sample("relay_lag", Kind::Gauge, "Journal positions not known to be on Kafka.", relay.lag);
                sample("relay_in_flight", Kind::Gauge, "Records on their way to Kafka.", relay.in_flight as u64);
                sample("relay_parked_keys", Kind::Gauge, "Keys that wait after a failure.", relay.parked_keys as u64);
                sample("relay_written_total", Kind::Counter, "Records that Kafka acknowledged.", relay.written);
                sample("relay_retries_total", Kind::Counter, "Records sent again.", relay.retries);
                sample("relay_set_aside_total", Kind::Counter, "Records set aside.", relay.set_aside);
            }
        }
        samples
    }
}

fn samples_of_debts(debts: DebtTotals) -> Vec<Sample> {
    let all = [
        ("refunds_owed", "Refunds that orders have asked for and that are not back.", debts.refunds),
        ("refunds_owed_minor", "Their sum, in minor units.", debts.owed_minor),
        ("orders_unanswered", "Orders that asked stock or payments again and again in vain.", debts.in_vain),
    ];
    let labels = vec![("service", Service::Order.name().to_owned())];
    all.map(|(name, help, value)| Sample { name, kind: Kind::Gauge, help, labels: labels.clone(), value }).into()
}

fn samples_of_journal(service: Service, journal: &'static str, health: &JournalHealth) -> [Sample; 3] {
    let labels = vec![("service", service.name().to_owned()), ("journal", journal.to_owned())];
    let is_in = |trouble| u64::from(health.trouble.is_some_and(|(present, _)| present == trouble));
    let all = [
        ("journal_log_bytes", "Length of a journal's write-ahead log on disk.", health.log_bytes),
        ("journal_busy", "1 while another program holds the lock of a journal's database.", is_in(Trouble::Busy)),
        ("journal_full", "1 while there is no room on a journal's disk.", is_in(Trouble::Full)),
    ];
    all.map(|(name, help, value)| Sample { name, kind: Kind::Gauge, help, labels: labels.clone(), value })
}

fn samples_of(service: Service, partition: &PartitionHealth) -> Vec<Sample> {
    let labels = vec![
        ("service", service.name().to_owned()),
        ("topic", partition.topic.to_string()),
        ("partition", partition.partition.to_string()),
    ];
    let count = |number: i64| u64::try_from(number).unwrap_or(0);
    let all = [
        ("bus_lag", Kind::Gauge, "Offsets between the frontier and the end.", partition.lag.map_or(0, count)),
        ("bus_in_flight", Kind::Gauge, "Records with the service.", partition.in_flight as u64),
        (
            "bus_oldest_in_flight_milliseconds",
            Kind::Gauge,
            "How long the oldest of them has been there.",
            partition.oldest_in_flight_ms.map_or(0, count),
        ),
        ("bus_lanes", Kind::Gauge, "Keys that have records here.", partition.lanes as u64),
        ("bus_retry_waiting", Kind::Gauge, "Keys that wait to be tried again.", partition.waiting_for_retry as u64),
        ("bus_received_total", Kind::Counter, "Records received.", partition.received),
        ("bus_finished_total", Kind::Counter, "Records finished.", partition.finished),
        ("bus_failures_total", Kind::Counter, "Failed tries.", partition.failures),
        ("bus_dead_letters_total", Kind::Counter, "Dead letters written.", partition.dead_letters),
        ("bus_commits_total", Kind::Counter, "Commits.", partition.commits),
        ("bus_commit_failures_total", Kind::Counter, "Commits that failed.", partition.commit_failures),
        (
            "bus_without_credit_milliseconds",
            Kind::Gauge,
            "How long nothing more was taken.",
            count(partition.without_credit_ms),
        ),
    ];
    let sample = |(name, kind, help, value)| Sample { name, kind, help, labels: labels.clone(), value };
    all.into_iter().map(sample).collect()
}

impl From<RelayHealth> for RelayReading {
    fn from(health: RelayHealth) -> Self {
        Self {
            is_running: health.is_running,
            lag: health.lag,
            in_flight: health.in_flight,
            parked_keys: health.parked_keys,
            written: health.written,
            retries: health.retries,
            set_aside: health.set_aside,
            last_error: health.last_error,
        }
    }
}
