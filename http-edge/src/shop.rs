//! What the handlers need: the services, whoever knows their health, and what the edge keeps itself.
//!
//! The root makes one [`Shop`] and shares it between the ports. It owns nothing that must survive a restart. A service
//! that falls leaves its place empty until it stands again; meanwhile its routes answer 503 and the others go on.

use std::sync::Arc;
use std::time::Instant;

use contracts::Service;
use futures::future::BoxFuture;
use order_service::OrderService;
use payment_service::PaymentService;
use product_service::ProductService;
use runtime::{Current, Roster};
use serde::{Deserialize, Serialize};
use user_service::UserService;

use crate::auth::Verifier;
use crate::auth::trust_log::TrustLog;
use crate::metrics::values::{RequestCounts, Sample};
use crate::peers::{HouseKey, Peers};
use crate::progress::StartProgress;
use crate::rate_limit::RateLimiter;

/// Everything that a handler may use.
pub struct Shop {
    /// The user service, while it stands.
    pub users: Current<UserService>,
    /// The product service, while it stands.
    pub products: Current<ProductService>,
    /// The order service, while it stands.
    pub orders: Current<OrderService>,
    /// The payment service, while it stands.
    pub payments: Current<PaymentService>,
    /// The services that stand in this process; the others are asked through [`Shop::peers`].
    pub here: Vec<Service>,
    /// The other processes of the house; `None` where all of it is in this one.
    pub peers: Option<Peers>,
    /// What opens the services' own ports for more than how they are; `None`: nothing does.
    pub house_key: Option<HouseKey>,
    /// Who knows how the services are.
    pub health: Arc<dyn HealthSource>,
    /// Who verifies access tokens.
    pub verifier: Arc<Verifier>,
    /// How far the verifier knows what the user service of another process said; starts as its default.
    pub trust: TrustLog,
    /// Who counts requests.
    pub rate_limiter: RateLimiter,
    /// What stands in the tree.
    pub roster: Roster,
    /// Who knows how the bus is.
    pub bus: Arc<dyn BusWatch>,
    /// Who breaks things for drills; `None`: those routes do not exist.
    pub chaos: Option<Arc<dyn Chaos>>,
    /// A name that no other start of a process has: leases of operations are held in it.
    pub process_id: String,
    /// A secret that stays the same over restarts. What a request asked for is stored as an HMAC under it, so that no card
    /// number or password can be guessed from what is stored.
    pub fingerprint_key: [u8; 32],
    /// Since when the process runs.
    pub started_at: Instant,
    /// How far the starts of the services have come.
    pub progress: Arc<StartProgress>,
    /// The numbers of the process that its root counts.
    pub process_samples: fn() -> Vec<Sample>,
    /// Answers by status; starts as its default.
    pub requests: RequestCounts,
}

impl Shop {
    /// The way to a service of another process; `None` where it is in this one.
    #[must_use]
    pub fn peer_for(&self, service: Service) -> Option<&Peers> {
        self.peers.as_ref().filter(|_| !self.here.contains(&service))
    }

    /// Whether `service` stands; of another process, whether it said so lately.
    #[must_use]
    pub fn stands(&self, service: Service) -> bool {
        if let Some(peers) = self.peer_for(service) {
            return peers.is_well(service);
        }
        match service {
            Service::Payment => self.payments.get().is_ok(),
            Service::Product => self.products.get().is_ok(),
            Service::User => self.users.get().is_ok(),
            Service::Order => self.orders.get().is_ok(),
        }
    }
}

/// Who knows how the services are: the root puts the bridge's directory behind this.
pub trait HealthSource: Send + Sync + 'static {
    /// The health of all services now, from what they said last. Answers at once.
    ///
    /// # Errors
    /// [`BusUnreachable`]: nothing is known of the services.
    fn report(&self) -> Result<HealthReport, BusUnreachable>;
}

/// The bus over which the services say how they are cannot be reached; the text is for the log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the message bus cannot be reached: {0}")]
pub struct BusUnreachable(pub String);

/// The health of all services; its JSON is the frozen answer of `GET /api/v1/services/health`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HealthReport {
    /// One entry a service.
    pub services: Vec<ServiceHealth>,
    /// How many there are.
    pub total_services: usize,
    /// How many of them answered lately.
    pub responding_services: usize,
}

/// How one service is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ServiceHealth {
    /// `healthy`, or another word.
    pub status: String,
    /// Its name.
    pub service: String,
    /// When it said so, in RFC 3339; `None` when it never did.
    pub timestamp: Option<String>,
    /// The version of its program.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// How long it runs, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uptime_s: Option<u64>,
    /// Its process's resident memory in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rss_bytes: Option<u64>,
}

/// Who knows how messages get through between the services: the root puts the bridge's health behind this.
pub trait BusWatch: Send + Sync + 'static {
    /// What keeps the messages of these services from getting through, a sentence each; none when they do.
    fn complaints(&self, services: &[Service]) -> Vec<String>;

    /// How it stands in this process, as JSON.
    ///
    /// # Errors
    /// Never, for a reading has a JSON.
    fn reading(&self) -> Result<String, serde_json::Error>;

    /// What of the data of this process does not fit together, in lines for people.
    ///
    /// # Errors
    /// Why it cannot be read, in a sentence.
    fn recovery(&self) -> BoxFuture<'_, Result<Vec<String>, String>>;

    /// The numbers of these services.
    fn samples(&self, services: &[Service]) -> Vec<Sample>;

    /// What `service` has set aside of `topic` on the embedded bus and not taken in since.
    ///
    /// # Errors
    /// Why they cannot be read, in a sentence.
    fn dead_letters<'a>(&'a self, service: Service, topic: &'a str) -> BoxFuture<'a, Result<Vec<DeadLetter>, String>>;

    /// What `service`'s topics lost has been seen to: it is no complaint any more. Gives how many ranges of records that were.
    fn acknowledge_loss(&self, service: Service) -> usize;

    /// Has `service` take in again what it has set aside of `topic` under `number`.
    ///
    /// # Errors
    /// Why it was not taken in, in a sentence.
    fn replay<'a>(&'a self, service: Service, topic: &'a str, number: u64) -> BoxFuture<'a, Result<(), String>>;
}

/// A message that was set aside, for people.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DeadLetter {
    /// Where it lies: on Kafka `partition/offset` of the topic of dead letters, else its number in `service`.
    pub place: String,
    /// Who could not take it in.
    pub service: String,
    /// Its key.
    pub key: Option<String>,
    /// What kind of failure it was.
    pub kind: String,
    /// The failure in words.
    pub error: String,
    /// What it says, as text.
    pub value: Option<String>,
    /// Its headers, as text.
    pub headers: Vec<(String, String)>,
}

/// Who breaks things for drills. The root gives one only in development.
pub trait Chaos: Send + Sync + 'static {
    /// Kills the tree of a service; its supervisor starts it again.
    fn kill(&self, service: Service);

    /// Makes the entity `id` of `kind` panic; `false` when there is no such kind.
    fn panic_entity(&self, kind: &str, id: &str) -> bool;
}
