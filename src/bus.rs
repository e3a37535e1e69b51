//! Which service hears which.
//!
//! | subscriber | reads the journal of | topics |
//! |---|---|---|
//! | product | order, product | `inventory-commands` |
//! | order | product, payment | `inventory-events`, `payment-events` |
//! | payment | order, payment | `payment-commands` |

use std::sync::Arc;

use bridge::embedded::{HandleError, Handler, Outbox, Subscription, SubscriptionArguments, SubscriptionCounters};
use contracts::{Envelope, InboxError, Service, Topic};
use futures::{FutureExt, future::BoxFuture};
use ractor::Actor;
use runtime::{
    Journal, JournalError, Recorded,
    supervision::{ChildSpec, Restart},
};

use crate::house::House;

/// Whose journals a service reads, and which topics it takes.
pub fn heard_by(subscriber: Service) -> (&'static [Service], &'static [Topic]) {
    match subscriber {
        Service::Product => (&[Service::Order, Service::Product], &[Topic::InventoryCommands]),
        Service::Order => (&[Service::Product, Service::Payment], &[Topic::InventoryEvents, Topic::PaymentEvents]),
        Service::Payment => (&[Service::Order, Service::Payment], &[Topic::PaymentCommands]),
        Service::User => (&[], &[]),
    }
}

/// The messages of an event in the journal of `source`.
fn messages_of(source: Service, recorded: &Recorded) -> Result<Vec<Envelope>, JournalError> {
    match source {
        Service::Product => Ok(product_service::ProductService::outbox(recorded)),
        Service::Order => order_service::outbox::outbox(recorded),
        Service::Payment => payment_service::outbox::outbox(recorded),
        Service::User => user_service::UserService::outbox(recorded),
    }
}

/// The subscriptions of a service as children of its tree. `inbox` takes a message in.
pub fn subscriptions<F>(house: &House, subscriber: Service, home: &Arc<dyn Journal>, inbox: F) -> Vec<ChildSpec>
where
    F: Fn(Arc<Envelope>) -> BoxFuture<'static, Result<(), InboxError>> + Send + Sync + 'static,
{
    let (sources, topics) = heard_by(subscriber);
    let inbox = Arc::new(inbox);
    let handler: Handler<Arc<Envelope>> = Arc::new(move |envelope| {
        let taken_in = inbox(envelope);
        async move {
            taken_in.await.map_err(|error| match error {
                InboxError::NotNow(reason) => HandleError::NotNow(reason),
                InboxError::Poison(reason) => HandleError::Poison(reason),
            })
        }
        .boxed()
    });
    let subscription = |source: &Service| {
        let arguments = SubscriptionArguments {
            name: format!("{subscriber}<{source}").into(),
            source: house.journal(*source).clone(),
            home: Arc::clone(home),
            outbox: outbox_of(*source, topics),
            handler: Arc::clone(&handler),
            counters: Arc::new(SubscriptionCounters::default()),
        };
        ChildSpec::new(format!("hears-{source}"), Restart::Permanent, move |supervisor| {
            let arguments = arguments.clone();
            async move {
                let (child, _) =
                    Subscription::spawn_linked(None, Subscription::default(), arguments, supervisor).await?;
                Ok(child.get_cell())
            }
        })
        .kind("subscription")
    };
    sources.iter().map(subscription).collect()
}

fn outbox_of(source: Service, topics: &'static [Topic]) -> Outbox<Arc<Envelope>> {
    Arc::new(move |recorded| {
        let wanted =
            messages_of(source, recorded)?.into_iter().filter(|message| topics.contains(&message.message.topic()));
        Ok(wanted.map(|envelope| (envelope.subject.clone(), Arc::new(envelope))).collect())
    })
}
