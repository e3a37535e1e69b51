//! What is done about what does not fit: in a stopped shop, under the locks of its logs, on behalf of `operator`.
//!
//! In this order, so that a run that is cut off is finished by the next: new incarnations, positions, stock, money. Stock and money go
//! through the entities that own them, under ids made from what they are about, so that nothing is done twice. What only the shop that
//! runs can do (asking the payment provider) is written down here and done at its next start.

use std::{path::PathBuf, sync::Arc, time::Duration};

use anyhow::{Context, anyhow};
use contracts::{RequestId, Service};
use payment_service::{PaymentService, Provider, SandboxProvider, provider::Refunding};
use product_service::ProductService;
use ractor::{Actor, ActorRef};
use runtime::{
    CommandId, Gate, Journal, LogMark, RequestContext, Roster,
    command::now_ms,
    journal::{Append, Fence, NewEvent, recovery::begin_incarnation},
    supervision::{ChildSpec, Supervisor, SupervisorMessage, SupervisorSpec},
};
use serde_json::json;
use tokio::sync::oneshot;

use super::{findings::Findings, logs::Logs};
use crate::{config::Settings, log_watch::BOOKS};

/// On whose behalf.
const ACTOR: &str = "operator";
/// Why stock is freed and money given back, as the events say.
const REASON: &str = "recovered";
/// How long one step may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// Commands in flight: one at a time.
const IN_FLIGHT_MAX: usize = 16;

/// Reconciles, and says what was done.
///
/// # Errors
/// The first step that could not be done, in one sentence. Run again, it goes on there.
pub async fn apply(settings: &Settings, logs: Logs, found: Findings) -> anyhow::Result<Vec<String>> {
    let mut concerned: Vec<&'static str> = found.said.iter().map(|(name, _)| *name).collect();
    concerned.extend(found.positions.iter().map(|wrong| wrong.source));
    concerned.sort_unstable();
    concerned.dedup();
    logs.close().await;
    let mut done = Vec::new();
    for name in concerned {
        let directory: PathBuf = settings.data_dir.join(name);
        let identity = tokio::task::spawn_blocking(move || begin_incarnation(&directory)).await??;
        tracing::warn!(log = name, incarnation = %identity.incarnation, actor = ACTOR, "a new incarnation of the log begins");
        done.push(Step::new(name, format!("the log's incarnation is {}", identity.incarnation)));
    }
    let logs = Logs::open(&settings.data_dir).await?;
    let outcome = reconcile(&logs, &found, &mut done).await;
    let audited = match outcome {
        Ok(()) => audit(&logs, &done).await,
        Err(error) => audit(&logs, &done).await.and(Err(error)),
    };
    logs.close().await;
    audited?;
    Ok(done.into_iter().map(|step| format!("{}: {}", step.log, step.text)).collect())
}

/// What was done, and in which log it is noted.
struct Step {
    log: &'static str,
    text: String,
}

impl Step {
    fn new(log: &'static str, text: String) -> Self {
        Self { log, text }
    }
}

async fn reconcile(logs: &Logs, found: &Findings, done: &mut Vec<Step>) -> anyhow::Result<()> {
    set_positions(logs, found, done).await?;
    let context = || {
        let mut context = RequestContext::new(RequestId::generate().as_str(), PATIENCE);
        context.actor = Some(ACTOR.into());
        context
    };
    let log = |service: Service| logs.of(service).with_context(|| format!("the log of {service} is not open"));
    let (roster, gate) = (Roster::new(), Gate::new(IN_FLIGHT_MAX));
    let products = ProductService::new(Arc::clone(log(Service::Product)?), &gate, roster.scoped("recover"));
    let books = logs.named(BOOKS).context("the books are not open")?;
    // Nobody is recognised by a card here.
    let provider = Arc::new(SandboxProvider::new(Arc::clone(books), [0; 32], &roster));
    let shared: Arc<dyn Provider> = Arc::clone(&provider) as Arc<dyn Provider>;
    let payments = PaymentService::new(Arc::clone(log(Service::Payment)?), &gate, &roster, shared);
    let mut children = products.children();
    children.extend(provider.children());
    children.extend(payments.children());
    let tree = start(children, &roster).await?;
    let steps = async {
        for held in &found.stock {
            let released = products.release_held(held, REASON, &context()).await;
            released.map_err(|error| anyhow!("the stock of {} could not be freed: {error:?}", held.sku))?;
            let text = format!("{} of {} freed; order {} is not there", held.units, held.sku, held.order_id);
            done.push(Step::new(Service::Product.name(), text));
        }
        for owed in &found.money {
            let payment = &owed.payment;
            let refund = owed.refund_id.clone();
            let promised = payments.promise_refund(payment, refund, owed.held_minor, REASON, &context()).await;
            promised.map_err(|error| anyhow!("{} could not be promised back: {error}", payment.payment_id))?;
            let text = format!(
                "{} minor units of payment {} go back; order {} does not know of them",
                owed.held_minor, payment.payment_id, payment.order_id
            );
            done.push(Step::new(Service::Payment.name(), text));
        }
        for charge in &found.charges {
            let refunding = Refunding {
                charge_key: charge.charge_key.clone(),
                idempotency_key: format!("recover-{}", charge.charge_key),
                amount_minor: charge.held_minor,
            };
            provider.refund(refunding).await?;
            let text = format!("{} minor units of charge {} are given back", charge.held_minor, charge.charge_key);
            done.push(Step::new(BOOKS, text));
        }
        Ok(())
    };
    let outcome: anyhow::Result<()> = steps.await;
    tree.stop_and_wait(None, None).await?;
    outcome
}

async fn set_positions(logs: &Logs, found: &Findings, done: &mut Vec<Step>) -> anyhow::Result<()> {
    for wrong in &found.positions {
        let (Some(home), Some(log)) = (logs.of(wrong.reader), logs.named(wrong.source)) else { continue };
        let identity = log.identity();
        let end = *log.committed().borrow();
        let mark = match log.digest_at(end).await? {
            Some(digest) if !wrong.is_read_again() => LogMark::new(identity, end, digest),
            _ => LogMark::start_of(identity),
        };
        home.store_position(Arc::clone(&wrong.name), mark).await?;
        let text = format!(
            "its position in the log of {} is set from {} to {}",
            wrong.source, wrong.mark.position, mark.position
        );
        done.push(Step::new(wrong.reader.name(), text));
    }
    Ok(())
}

/// Notes in each log what was done in it, as one event that nobody outside hears of.
async fn audit(logs: &Logs, done: &[Step]) -> anyhow::Result<()> {
    let run = RequestId::generate();
    for log in logs.all() {
        let steps: Vec<&str> = done.iter().filter(|step| step.log == log.name).map(|step| step.text.as_str()).collect();
        for step in &steps {
            tracing::warn!(log = log.name, step, actor = ACTOR, "reconciled");
        }
        if steps.is_empty() {
            continue;
        }
        let payload = json!({ "steps": steps }).to_string();
        let event = NewEvent { event_type: "log.recovered", payload, published_before: None };
        append(&*log.journal, &run, event).await.with_context(|| format!("{}: the audit was not written", log.name))?;
    }
    Ok(())
}

async fn append(journal: &dyn Journal, run: &RequestId, event: NewEvent) -> anyhow::Result<()> {
    let (reply, settled) = oneshot::channel();
    journal.append(Append {
        stream: format!("recovery/{run}").into(),
        first_version: 1,
        events: vec![event],
        schema: 1,
        refusal: None,
        command_id: CommandId::of(&["recover", "audit", run.as_str()]),
        at_ms: now_ms(),
        correlation_id: Some(run.as_str().into()),
        causation_id: None,
        actor: Some(ACTOR.into()),
        traceparent: None,
        views: Vec::new(),
        snapshot: None,
        fence: Arc::new(Fence::default()),
        // Who waits may have given up.
        settle: Box::new(move |outcome| drop(reply.send(outcome))),
    });
    Ok(settled.await??)
}

async fn start(children: Vec<ChildSpec>, roster: &Roster) -> anyhow::Result<ActorRef<SupervisorMessage>> {
    let spec = SupervisorSpec::new("recover", children);
    let (tree, _) = Supervisor::spawn(None, Supervisor, (spec, roster.clone())).await?;
    Ok(tree)
}
