//! The product service on a real journal under a supervisor, with a bus that carries its messages to itself.
#![allow(dead_code, reason = "each test file uses its part")]

use std::{path::Path, sync::Arc, time::Duration};

use contracts::{
    Currency, Envelope, EventId, Message, Money, OrderId, Quantity, ReservationId, Service, Sku, Timestamp,
};
use product_service::{NewProduct, ProductDetail, ProductService, RequestContext};
use ractor::{Actor, ActorRef};
use runtime::{
    Gate, Journal, Recorded, Roster,
    journal::sqlite::{SqliteJournal, SqliteOptions},
    supervision::{Supervisor, SupervisorMessage, SupervisorSpec},
};
use tokio::task::JoinHandle;

pub const PATIENCE: Duration = Duration::from_secs(20);

pub struct System {
    pub service: ProductService,
    pub journal: Arc<SqliteJournal>,
    supervisor: ActorRef<SupervisorMessage>,
    bus: Option<JoinHandle<()>>,
}

impl System {
    pub async fn start(directory: &Path) -> Self {
        let mut system = Self::start_without_bus(directory).await;
        system.bus = Some(tokio::spawn(carry(system.service.clone(), system.journal.clone())));
        system
    }

    pub async fn start_without_bus(directory: &Path) -> Self {
        let options = SqliteOptions::new(directory, ProductService::VIEWS);
        let journal = SqliteJournal::open(&options).unwrap();
        let roster = Roster::new();
        let service = ProductService::new(journal.clone(), &Gate::new(100_000), roster.clone());
        let spec = SupervisorSpec::new("product", service.children());
        let (supervisor, _) = Supervisor::spawn(None, Supervisor, (spec, roster)).await.unwrap();
        Self { service, journal, supervisor, bus: None }
    }

    pub async fn stop(self) {
        if let Some(bus) = self.bus {
            bus.abort();
        }
        self.supervisor.stop_and_wait(None, None).await.unwrap();
        self.journal.close().await;
    }

    pub async fn create(&self, name: &str, price_minor: i64, stock: i64) -> ProductDetail {
        self.service.create_product(new_product(name, price_minor, stock), &context()).await.unwrap()
    }

    /// Gives a message and counts on its being taken.
    pub async fn give(&self, envelope: &Envelope) {
        self.service.inbox(envelope).await.unwrap();
    }

    /// Everything that the journal has told the world.
    pub async fn told(&self) -> Vec<Envelope> {
        self.recorded().await.iter().flat_map(|event| ProductService::outbox(event).unwrap()).collect()
    }

    pub async fn recorded(&self) -> Vec<Recorded> {
        self.journal.read_after(0, 1_000_000).await.unwrap()
    }

    pub async fn is_told(&self, is_it: impl Fn(&Message) -> bool) -> usize {
        self.told().await.iter().filter(|envelope| is_it(&envelope.message)).count()
    }
}

/// A bus of the simplest kind: from the first event on after every start, so everything is given at least once.
async fn carry(service: ProductService, journal: Arc<SqliteJournal>) {
    let (mut committed, mut position) = (journal.committed(), 0);
    while let Ok(newest) = committed.wait_for(|newest| *newest > position).await.map(|newest| *newest) {
        while position < newest {
            let Ok(recorded) = journal.read_after(position, 1_000).await else { return };
            for event in recorded {
                for envelope in ProductService::outbox(&event).unwrap() {
                    service.inbox(&envelope).await.unwrap();
                }
                position = event.position;
            }
        }
    }
}

pub fn context() -> RequestContext {
    RequestContext::new("req_test", PATIENCE)
}

pub fn new_product(name: &str, price_minor: i64, stock: i64) -> NewProduct {
    NewProduct {
        id: None,
        sku: None,
        name: name.into(),
        description: format!("{name}, for a test"),
        price: Money::from_minor(price_minor, Currency::USD).unwrap(),
        category: "Test".into(),
        images: vec!["https://example.com/1.jpg".into()],
        specifications: Some(r#"{"colour":"Black","weight":0.250}"#.into()),
        stock_quantity: stock,
    }
}

pub fn reservation(number: u32) -> (ReservationId, OrderId) {
    (ReservationId::parse(&format!("res_{number}")).unwrap(), OrderId::parse(&format!("ord_{number}")).unwrap())
}

pub fn reserve(sku: &Sku, number: u32, units: u32) -> Envelope {
    reserve_until(sku, number, units, Timestamp::from_seconds(2_000_000_000))
}

pub fn reserve_until(sku: &Sku, number: u32, units: u32, expires_at: Timestamp) -> Envelope {
    let (reservation_id, order_id) = reservation(number);
    let quantity = Quantity::new(units).unwrap();
    envelope(Message::ReserveStock { sku: sku.clone(), reservation_id, order_id, quantity, expires_at })
}

pub fn commit(sku: &Sku, number: u32) -> Envelope {
    let (reservation_id, order_id) = reservation(number);
    envelope(Message::CommitStock { sku: sku.clone(), reservation_id, order_id })
}

pub fn release(sku: &Sku, number: u32) -> Envelope {
    let (reservation_id, order_id) = reservation(number);
    envelope(Message::ReleaseStock { sku: sku.clone(), reservation_id, order_id, reason: "test".into() })
}

/// A message from the order service, under an id of its own.
pub fn envelope(message: Message) -> Envelope {
    Envelope {
        correlation_id: Some("req_order".into()),
        actor: Some("usr_1".into()),
        ..Envelope::new(EventId::generate(), Service::Order, Timestamp::now(), message)
    }
}

impl System {
    /// The two integers that a question to the read model brings.
    pub async fn journal_row(&self, sql: &'static str) -> (i64, i64) {
        let rows = self.journal.query(sql, vec![]).await.unwrap();
        (rows[0].integer(0).unwrap(), rows[0].integer(1).unwrap())
    }
}
