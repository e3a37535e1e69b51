//! A gateway and four services that ping and pong, in this process or over Kafka; prints the report whenever it changes.
//!
//! ```text
//! cargo run --release -p microcommerce-bridge --example health                       # in this process
//! cargo run --release -p microcommerce-bridge --example health -- 127.0.0.1:9092     # over Kafka; stop and start the broker
//! kcat -b 127.0.0.1:9092 -C -t service-pong -o end -K ' '                            # what others see of it
//! ```

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use microcommerce_bridge::health::{
    HealthBoard, HealthTransport, InProcessHealth, KafkaHealth, KafkaHealthConfig, PING_INTERVAL_MS, PingerArgs,
    ResponderArgs, ServiceCondition, start_pinger, start_responder,
};
use microcommerce_bridge::kafka::KafkaClientSettings;
use ractor::{Actor, ActorProcessingErr, ActorRef, SupervisionEvent};

const SERVICES: [&str; 4] = ["payment-service", "product-service", "user-service", "order-service"];

/// A parent that only looks on; a real one restarts its children.
struct Parent;

impl Actor for Parent {
    type Msg = ();
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _myself: ActorRef<()>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        _myself: ActorRef<()>,
        event: SupervisionEvent,
        (): &mut (),
    ) -> Result<(), ActorProcessingErr> {
        println!("{event}");
        Ok(())
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let transport: Arc<dyn HealthTransport> = match std::env::args().nth(1) {
        Some(broker) => KafkaHealth::start(KafkaHealthConfig {
            client: KafkaClientSettings::plain(broker, "health-example"),
            topic_prefix: String::new(),
        })?,
        None => Arc::new(InProcessHealth::new()),
    };
    let (parent, _) = Actor::spawn(None, Parent, ()).await?;
    for service in SERVICES {
        let args = ResponderArgs {
            transport: Arc::clone(&transport),
            service: service.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            instance: format!("example-{}", std::process::id()),
            address: None,
            condition: Arc::new(|| ServiceCondition::Healthy),
        };
        start_responder(args, parent.get_cell()).await?;
    }
    let board = HealthBoard::new(transport, SERVICES);
    start_pinger(PingerArgs { board: board.clone() }, parent.get_cell()).await?;

    let (reader, mut shown) = (board.reader(), String::new());
    let mut look = tokio::time::interval(Duration::from_millis(PING_INTERVAL_MS));
    loop {
        look.tick().await;
        let now = match reader.report() {
            Ok(report) => {
                let health = report.services.iter().map(|health| format!("{} {}", health.service, health.status));
                health.collect::<Vec<_>>().join(", ")
            }
            Err(unreachable) => unreachable.to_string(),
        };
        if now != shown {
            println!("{now}");
            shown = now;
        }
    }
}
