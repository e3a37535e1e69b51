//! The house: the places where the present incarnations of the services are found, and what outlives them.

use std::{path::PathBuf, sync::Arc, time::Instant};

use anyhow::Context;
use bridge::health::{HealthBoard, HealthTransport, InProcessHealth, KafkaHealth, KafkaHealthConfig};
use contracts::Service;
use http_edge::{
    auth::Verifier,
    rate_limit::RateLimiter,
    shop::{Chaos, Shop},
};
use order_service::OrderService;
use payment_service::PaymentService;
use product_service::ProductService;
use ractor::ActorRef;
use runtime::{Current, Journal, Roster, supervision::SupervisorMessage};
use user_service::UserService;

use crate::{chaos::Drills, config::Settings, health::Directory, secret::Secret};

/// The places; see the module's text.
pub struct House {
    pub data_dir: PathBuf,
    pub users: Current<UserService>,
    pub products: Current<ProductService>,
    pub orders: Current<OrderService>,
    pub payments: Current<PaymentService>,
    /// The journals, for those who read another service's.
    journals: [Current<Arc<dyn Journal>>; 4],
    /// The public half of the key that signs access tokens.
    pub public_key: Current<[u8; 32]>,
    /// The secret of the data directory, read under the payment service's lock.
    pub secret: Current<Secret>,
    pub roster: Roster,
    pub health: Arc<dyn HealthTransport>,
    pub board: HealthBoard,
    /// A name that no other start of a process has.
    pub process_id: String,
}

impl House {
    /// An empty house.
    ///
    /// # Errors
    /// When the Kafka client refuses its settings.
    pub fn new(settings: &Settings) -> anyhow::Result<Self> {
        let health: Arc<dyn HealthTransport> = match &settings.kafka_broker {
            Some(broker) => {
                KafkaHealth::start(KafkaHealthConfig { broker: broker.clone(), client_id: "microcommerce".to_owned() })?
            }
            None => Arc::new(InProcessHealth::new()),
        };
        Ok(Self {
            data_dir: settings.data_dir.clone(),
            users: Current::empty(),
            products: Current::empty(),
            orders: Current::empty(),
            payments: Current::empty(),
            journals: std::array::from_fn(|_| Current::empty()),
            public_key: Current::empty(),
            secret: Current::empty(),
            roster: Roster::new(),
            board: HealthBoard::new(Arc::clone(&health), Service::ALL.map(Service::name)),
            health,
            // Sortable and unique: the suffix of an id.
            process_id: contracts::RequestId::generate().as_str().trim_start_matches("req_").to_owned(),
        })
    }

    /// The place of a service's journal.
    pub fn journal(&self, service: Service) -> &Current<Arc<dyn Journal>> {
        match service {
            Service::Payment => &self.journals[0],
            Service::Product => &self.journals[1],
            Service::User => &self.journals[2],
            Service::Order => &self.journals[3],
        }
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
    ///
    /// # Errors
    /// When a service fell before the shop was open.
    pub fn shop(
        self: &Arc<Self>,
        settings: &Settings,
        root: &ActorRef<SupervisorMessage>,
    ) -> anyhow::Result<Arc<Shop>> {
        let public_key = self.public_key.get().context("the user service")?;
        let secret = self.secret.get().context("the payment service")?;
        let drills: Arc<dyn Chaos> = Arc::new(Drills::new(Arc::clone(self), root.clone()));
        Ok(Arc::new(Shop {
            users: self.users.clone(),
            products: self.products.clone(),
            orders: self.orders.clone(),
            payments: self.payments.clone(),
            health: Arc::new(Directory::new(Arc::clone(self))),
            verifier: Arc::new(Verifier::from_public_key(&public_key)),
            rate_limiter: RateLimiter::new(settings.rate_limits),
            roster: self.roster.clone(),
            chaos: settings.has_chaos.then_some(drills),
            process_id: self.process_id.clone(),
            fingerprint_key: secret.key("requests"),
            started_at: Instant::now(),
            requests: Default::default(),
        }))
    }
}
