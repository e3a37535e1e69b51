//! The house: the places where the present incarnations of the services are found, and what outlives them.

use std::{sync::Arc, time::Instant};

use anyhow::anyhow;
use bridge::health::{HealthBoard, HealthTransport, InProcessHealth, KafkaHealth, KafkaHealthConfig};
use bridge::{engine::Bridge, kafka::KafkaClientSettings};
use contracts::Service;
use http_edge::{
    auth::Verifier,
    peers::{HouseKey, Peers},
    rate_limit::{Profile, RateLimiter},
    shop::{Chaos, Shop},
    starting::StartProgress,
};
use order_service::OrderService;
use payment_service::PaymentService;
use product_service::ProductService;
use ractor::ActorRef;
use runtime::{Current, Journal, Roster, supervision::SupervisorMessage};
use user_service::UserService;

use crate::{
    bus::{embedded::SetAside, kafka::KafkaBus, watch::Watch},
    chaos::Drills,
    config::{Role, Settings},
    ending::Ending,
    health::{Directory, Pongs},
    secret::Secret,
    side_channel,
};

/// The places; see the module's text.
pub struct House {
    pub users: Current<UserService>,
    pub products: Current<ProductService>,
    pub orders: Current<OrderService>,
    pub payments: Current<PaymentService>,
    /// The journals, for those who read another service's.
    journals: [Current<Arc<dyn Journal>>; 4],
    /// The journal of the sandbox provider's books.
    pub books: Current<Arc<dyn Journal>>,
    /// Who verifies access tokens. The user service gives it its public key, or is asked for it where it is elsewhere.
    pub verifier: Arc<Verifier>,
    /// What the processes of this house know and nobody else.
    pub secret: Secret,
    /// What this process runs, and where.
    pub settings: Settings,
    /// What the services hear, for those who look.
    bridges: [Current<Bridge>; 4],
    /// What the services have set aside on the embedded bus.
    set_aside: [Current<SetAside>; 4],
    /// The bus over Kafka, where it is used.
    pub kafka: Option<Arc<KafkaBus>>,
    pub roster: Roster,
    pub health: Arc<dyn HealthTransport>,
    pub board: HealthBoard,
    /// A name that no other start of a process has.
    pub process_id: String,
    /// How far the starts of the services have come.
    pub progress: Arc<StartProgress>,
    /// Whether the process was told to end: what is being started then is given up.
    pub ending: Ending,
}

impl House {
    /// An empty house.
    ///
    /// # Errors
    /// When the Kafka client refuses its settings, or the secret cannot be read or made.
    pub fn new(settings: &Settings, progress: Arc<StartProgress>, ending: Ending) -> anyhow::Result<Self> {
        let client = KafkaClientSettings::from_env(settings.role.name())?;
        let health: Arc<dyn HealthTransport> = match &client {
            Some(client) => KafkaHealth::start(KafkaHealthConfig {
                client: client.clone(),
                topic_prefix: settings.topic_prefix.clone(),
            })?,
            None => Arc::new(InProcessHealth::new()),
        };
        let secret = match &settings.secret_key {
            Some(text) => Secret::given(text),
            None => {
                let file = settings.secret_file();
                Secret::load_or_create(&file).map_err(|error| anyhow!("{}: {error}", file.display()))?
            }
        };
        let kafka = match client {
            Some(client) => {
                Some(KafkaBus::new(client, &settings.topic_prefix, settings.kafka_compression, ending.clone())?)
            }
            None => None,
        };
        Ok(Self {
            kafka,
            bridges: std::array::from_fn(|_| Current::empty()),
            set_aside: std::array::from_fn(|_| Current::empty()),
            users: Current::empty(),
            products: Current::empty(),
            orders: Current::empty(),
            payments: Current::empty(),
            journals: std::array::from_fn(|_| Current::empty()),
            books: Current::empty(),
            verifier: Arc::new(Verifier::without_key()),
            secret,
            settings: settings.clone(),
            roster: Roster::new(),
            board: HealthBoard::new(Arc::clone(&health), Service::ALL.map(Service::name)),
            health,
            // Sortable and unique: the suffix of an id.
            process_id: contracts::RequestId::generate().as_str().trim_start_matches("req_").to_owned(),
            progress,
            ending,
        })
    }

    /// The place of a service's journal.
    pub fn journal(&self, service: Service) -> &Current<Arc<dyn Journal>> {
        &self.journals[service.index()]
    }

    /// The place of what a service hears.
    pub fn bridge(&self, service: Service) -> &Current<Bridge> {
        &self.bridges[service.index()]
    }

    /// The place of what a service has set aside on the embedded bus.
    pub fn set_aside(&self, service: Service) -> &Current<SetAside> {
        &self.set_aside[service.index()]
    }

    /// What of a service's logs does not fit together, a sentence for each: while there is any, it changes nothing.
    pub fn contradictions(&self, service: Service) -> Vec<String> {
        let books = (service == Service::Payment).then_some(&self.books);
        let logs = [Some(&self.journals[service.index()]), books].into_iter().flatten();
        logs.filter_map(|log| log.get().ok()).flat_map(|log| log.contradictions().sentences()).collect()
    }

    /// True while a service stands.
    pub fn stands(&self, service: Service) -> bool {
        match service {
            Service::Payment => self.payments.get().is_ok(),
            Service::Product => self.products.get().is_ok(),
            Service::User => self.users.get().is_ok(),
            Service::Order => self.orders.get().is_ok(),
        }
    }

    /// What the HTTP edge works with, once the tree stands.
    pub fn shop(self: &Arc<Self>, root: &ActorRef<SupervisorMessage>) -> Arc<Shop> {
        let settings = &self.settings;
        let drills: Arc<dyn Chaos> = Arc::new(Drills::new(Arc::clone(self), root.clone()));
        let is_apart = settings.role != Role::All;
        let house_key = HouseKey::new(&self.secret.key("house"));
        // The gateway of a house counts and limits for all of its processes.
        let rate_limits = if settings.role.has_gateway() { settings.rate_limits } else { Profile::Off };
        Arc::new(Shop {
            users: self.users.clone(),
            products: self.products.clone(),
            orders: self.orders.clone(),
            payments: self.payments.clone(),
            here: settings.role.services(),
            peers: is_apart.then(|| Peers::new(Arc::new(Pongs(self.board.reader())), house_key.clone())),
            house_key: Some(house_key),
            health: Arc::new(Directory::new(Arc::clone(self))),
            verifier: Arc::clone(&self.verifier),
            trust: Default::default(),
            rate_limiter: RateLimiter::new(rate_limits),
            roster: self.roster.clone(),
            bus: Arc::new(Watch::new(Arc::clone(self))),
            chaos: settings.has_chaos.then_some(drills),
            process_id: self.process_id.clone(),
            fingerprint_key: self.secret.key("requests"),
            started_at: Instant::now(),
            progress: Arc::clone(&self.progress),
            process_samples: side_channel::samples,
            requests: Default::default(),
        })
    }
}
