//! What every service's branch is made of, in the order of its start: the keeper of its journal, its shards, its
//! subscriptions, and last its presence: from then on the others find it.

use std::{sync::Arc, time::Duration};

use contracts::{Envelope, InboxError, Service};
use futures::{FutureExt, future::BoxFuture};
use payment_service::{PaymentService, SandboxProvider, provider::sandbox};
use ractor::{Actor, ActorProcessingErr, ActorRef, SupervisionEvent};
use runtime::{
    Current, Gate, Journal, ViewSchema,
    current::Occupancy,
    journal::{
        keeper::JournalKeeper,
        progress::OpenProgress,
        sqlite::{SqliteJournal, SqliteOptions},
    },
    supervision::{ChildSpec, Restart, StartError, SupervisorSpec},
};
use user_service::{TokenIssuer, UserServiceConfig};

use crate::{
    bus,
    house::House,
    log_watch::{self, BOOKS},
};

/// Commands in flight in one service.
const IN_FLIGHT_MAX: usize = 20_000;
/// How long a journal may take to settle what it has when the shop closes.
const CLOSE_DEADLINE: Duration = Duration::from_secs(10);

/// The branch of the user service.
pub async fn user(house: Arc<House>) -> Result<SupervisorSpec, StartError> {
    let journal = open(&house, Service::User, Service::User.name(), user_service::UserService::VIEWS).await?;
    bus::compare(&house, Service::User, &journal).await?;
    let file = house.settings.data_dir.join(Service::User.name()).join("signing-key.pk8");
    let tokens = blocking(move || TokenIssuer::load_or_create(&file)).await?;
    house.verifier.set_public_key(tokens.public_key().as_bytes());
    let config =
        UserServiceConfig { log_key: house.secret.key("addresses in the log"), ..UserServiceConfig::default() };
    let service =
        user_service::UserService::new(Arc::clone(&journal), &gate(), &house.roster, Arc::new(tokens), config);
    let children = service.children();
    let hears = bus::children(&house, Service::User, &journal, Arc::new(ignore))?;
    Ok(branch(&house, Service::User, journal, children, hears, presence(&house, Service::User, &house.users, service)))
}

/// The branch of the product service.
pub async fn product(house: Arc<House>) -> Result<SupervisorSpec, StartError> {
    let journal =
        open(&house, Service::Product, Service::Product.name(), product_service::ProductService::VIEWS).await?;
    bus::compare(&house, Service::Product, &journal).await?;
    let roster = house.roster.scoped(Service::Product.name());
    let service = product_service::ProductService::new(Arc::clone(&journal), &gate(), roster);
    let inbox = service.clone();
    let hears = bus::children(
        &house,
        Service::Product,
        &journal,
        Arc::new(move |envelope: Arc<Envelope>| {
            let service = inbox.clone();
            async move { service.inbox(&envelope).await }.boxed()
        }),
    )?;
    let children = service.children();
    Ok(branch(
        &house,
        Service::Product,
        journal,
        children,
        hears,
        presence(&house, Service::Product, &house.products, service),
    ))
}

/// The branch of the order service.
pub async fn order(house: Arc<House>) -> Result<SupervisorSpec, StartError> {
    let journal = open(&house, Service::Order, Service::Order.name(), order_service::VIEWS).await?;
    bus::compare(&house, Service::Order, &journal).await?;
    let service =
        order_service::OrderService::new(Arc::clone(&journal), &gate(), &house.roster).on_terms(house.settings.terms);
    service.count_unpaid().await.map_err(StartError::new)?;
    let inbox = service.clone();
    let hears = bus::children(
        &house,
        Service::Order,
        &journal,
        Arc::new(move |envelope: Arc<Envelope>| {
            let service = inbox.clone();
            async move { service.inbox(&envelope).await }.boxed()
        }),
    )?;
    let children = service.children();
    Ok(branch(
        &house,
        Service::Order,
        journal,
        children,
        hears,
        presence(&house, Service::Order, &house.orders, service),
    ))
}

/// The branch of the payment service, with the sandbox provider and its books.
pub async fn payment(house: Arc<House>) -> Result<SupervisorSpec, StartError> {
    let journal = open(&house, Service::Payment, Service::Payment.name(), payment_service::VIEWS).await?;
    bus::compare(&house, Service::Payment, &journal).await?;
    let books = open(&house, Service::Payment, BOOKS, sandbox::VIEWS).await?;
    log_watch::compare_one(&journal, &log_watch::note_of_the_books(), BOOKS, &books).await.map_err(StartError::new)?;
    let provider = Arc::new(SandboxProvider::new(Arc::clone(&books), house.secret.key("cards"), &house.roster));
    let mut children =
        vec![keeper("books-keeper", Arc::clone(&books)), announce("books", house.books.clone(), books, || {})];
    children.extend(provider.children());
    let service = PaymentService::new(Arc::clone(&journal), &gate(), &house.roster, provider)
        .within(house.settings.terms.payment_window_ms);
    children.extend(service.children());
    let inbox = service.clone();
    let hears = bus::children(
        &house,
        Service::Payment,
        &journal,
        Arc::new(move |envelope: Arc<Envelope>| {
            let service = inbox.clone();
            async move { service.inbox(&envelope).await }.boxed()
        }),
    )?;
    Ok(branch(
        &house,
        Service::Payment,
        journal,
        children,
        hears,
        presence(&house, Service::Payment, &house.payments, service),
    ))
}

/// The tables of the read model of the log called `name`.
pub fn views_of(name: &str) -> &'static [ViewSchema] {
    match Service::named(name) {
        Some(Service::User) => user_service::UserService::VIEWS,
        Some(Service::Product) => product_service::ProductService::VIEWS,
        Some(Service::Payment) => payment_service::VIEWS,
        Some(Service::Order) => order_service::VIEWS,
        None => sandbox::VIEWS,
    }
}

fn ignore(_: Arc<Envelope>) -> BoxFuture<'static, Result<(), InboxError>> {
    async { Ok(()) }.boxed()
}

fn gate() -> Arc<Gate> {
    Gate::new(IN_FLIGHT_MAX)
}

async fn open(
    house: &House,
    service: Service,
    name: &str,
    views: &'static [ViewSchema],
) -> Result<Arc<dyn Journal>, StartError> {
    let options = SqliteOptions::new(house.settings.data_dir.join(name), views);
    let (mut steps, progress) = (options.progress.subscribe(), Arc::clone(&house.progress));
    let shown = tokio::spawn(async move {
        // Until the options are gone, and with them who writes it.
        while steps.changed().await.is_ok() {
            let step = steps.borrow_and_update().clone();
            if let Some(OpenProgress { step, done, total }) = step {
                progress.came(service, step, done, total);
            }
        }
    });
    let opened = tokio::task::spawn_blocking(move || SqliteJournal::open(&options)).await;
    // So that nothing older is shown over what comes next.
    let _ = shown.await;
    Ok(opened.map_err(StartError::new)??)
}

/// Runs what waits for the disk where waiting is allowed.
async fn blocking<T, E>(work: impl FnOnce() -> Result<T, E> + Send + 'static) -> Result<T, StartError>
where
    T: Send + 'static,
    E: std::fmt::Display + Send + 'static,
{
    tokio::task::spawn_blocking(work).await.map_err(StartError::new)?.map_err(StartError::new)
}

fn keeper(name: &str, journal: Arc<dyn Journal>) -> ChildSpec {
    JournalKeeper::child(name, journal).kind("journal-keeper").stop_deadline(CLOSE_DEADLINE)
}

fn branch(
    house: &Arc<House>,
    service: Service,
    journal: Arc<dyn Journal>,
    shards: Vec<ChildSpec>,
    hears: Vec<ChildSpec>,
    presence: ChildSpec,
) -> SupervisorSpec {
    let mut children = vec![keeper("journal-keeper", Arc::clone(&journal))];
    children.extend(shards);
    children.extend(hears);
    children.push(announce("journal", house.journal(service).clone(), Arc::clone(&journal), || {}));
    children.push(log_watch::child(house, service, &journal));
    children.push(presence);
    SupervisorSpec::new(format!("shop/{service}"), children)
}

/// The last child: with it the service has started.
fn presence<T: Clone + Send + Sync + 'static>(
    house: &House,
    service: Service,
    place: &Current<T>,
    value: T,
) -> ChildSpec {
    let progress = Arc::clone(&house.progress);
    announce("presence", place.clone(), value, move || progress.started(service))
}

fn announce<T: Clone + Send + Sync + 'static>(
    name: &str,
    place: Current<T>,
    value: T,
    announced: impl Fn() + Clone + Send + Sync + 'static,
) -> ChildSpec {
    ChildSpec::new(name, Restart::Permanent, move |supervisor| {
        let (arguments, announced) = ((place.clone(), value.clone()), announced.clone());
        async move {
            let (child, _) = Presence::<T>::spawn_linked(None, Presence::default(), arguments, supervisor).await?;
            announced();
            Ok(child.get_cell())
        }
    })
    .kind("presence")
}

/// An actor whose life is something's presence in its place: when its tree dies, in whatever way, the place is empty.
struct Presence<T>(std::marker::PhantomData<fn() -> T>);

impl<T> Default for Presence<T> {
    fn default() -> Self {
        Self(std::marker::PhantomData)
    }
}

impl<T: Clone + Send + Sync + 'static> Actor for Presence<T> {
    type Msg = ();
    type State = Occupancy<T>;
    type Arguments = (Current<T>, T);

    async fn pre_start(
        &self,
        _: ActorRef<()>,
        (place, value): (Current<T>, T),
    ) -> Result<Occupancy<T>, ActorProcessingErr> {
        Ok(place.occupy(value))
    }

    async fn handle_supervisor_evt(
        &self,
        _: ActorRef<()>,
        _: SupervisionEvent,
        _: &mut Occupancy<T>,
    ) -> Result<(), ActorProcessingErr> {
        // It has no children.
        Ok(())
    }
}
