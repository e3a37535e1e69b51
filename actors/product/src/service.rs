//! The use cases that change something, and the service as one thing to start and to wire.
//!
//! It holds the handles of its entities and its journal; the root owns the tree and the bus. It keeps no state of its own,
//! so clones are the same service and nothing is lost with one.

use std::sync::Arc;

use contracts::{Envelope, EventId, InboxError, ProductId, Sku, Timestamp};
use runtime::{
    CommandId, Entities, EntitiesConfig, Gate, Journal, JournalError, Recorded, RequestContext, Roster, ViewSchema,
};

use crate::{
    catalog::page::ProductDetail,
    error::{FieldError, ProductError, of_stock},
    inbox, outbox,
    product::{Content, Product, ProductCommand, ProductEvent},
    requests::{Adjustment, NewProduct, ProductChange, StockMovement},
    stock_item::{Stock, StockCommand, StockEvent, StockItem},
    validation,
};

/// Events between two snapshots of a SKU. A snapshot of a SKU that has sold 100,000 times is some 8 MB, and replaying this
/// many events takes tens of milliseconds: seldom enough not to be felt in a sale, often enough to wake quickly.
const STOCK_SNAPSHOT_EVERY: u64 = 10_000;

/// The product service. Clones are the same service.
#[derive(Clone)]
pub struct ProductService {
    products: Entities<Product>,
    stock: Entities<StockItem>,
    pub(crate) journal: Arc<dyn Journal>,
}

impl ProductService {
    /// The read model: what the journal must be opened with.
    pub const VIEWS: &'static [ViewSchema] = &[ViewSchema::of::<Product>(), ViewSchema::of::<StockItem>()];

    /// The service on its own `journal`, opened with [`ProductService::VIEWS`], within its own `gate`. Nothing runs until
    /// a supervisor starts [`ProductService::children`].
    #[must_use]
    pub fn new(journal: Arc<dyn Journal>, gate: &Arc<Gate>, roster: Roster) -> Self {
        let of_stock = EntitiesConfig { snapshot_every: STOCK_SNAPSHOT_EVERY, ..EntitiesConfig::default() };
        Self {
            products: Entities::new(Arc::clone(&journal), gate, EntitiesConfig::default(), roster.clone()),
            stock: Entities::new(Arc::clone(&journal), gate, of_stock, roster),
            journal,
        }
    }

    /// The products by id.
    pub(crate) fn products(&self) -> &Entities<Product> {
        &self.products
    }

    /// The stock by SKU.
    pub(crate) fn stock_items(&self) -> &Entities<StockItem> {
        &self.stock
    }

    /// The messages that an event of this service's journal gives rise to, in order. Pure: the same event always gives
    /// the same messages under the same ids.
    ///
    /// # Errors
    /// [`JournalError::Corrupt`] when the event cannot be read.
    pub fn outbox(recorded: &Recorded) -> Result<Vec<Envelope>, JournalError> {
        outbox::messages_of(recorded)
    }

    /// Takes a message in: inventory commands are done, messages of other topics are ignored. When it returns `Ok` the
    /// effect is durable; the same envelope again has no second effect.
    ///
    /// # Errors
    /// [`InboxError::NotNow`]: give it again. [`InboxError::Poison`]: units for a SKU of another product, or beyond what a
    /// SKU can hold.
    pub async fn inbox(&self, envelope: &Envelope) -> Result<(), InboxError> {
        inbox::take_in(&self.stock, envelope).await
    }

    /// Puts a product into the catalogue and waits until its first units have come in over the bus, so that the answer
    /// shows them. Asked again with the same id, it goes on where it was and gives the first product.
    ///
    /// # Errors
    /// [`ProductError::Invalid`], [`ProductError::SkuTaken`], [`ProductError::Busy`]; [`ProductError::Unavailable`] also
    /// when the units have not come in by the deadline: then the product may be there, and they will come.
    pub async fn create_product(&self, new: NewProduct, ctx: &RequestContext) -> Result<ProductDetail, ProductError> {
        let mut errors = Vec::new();
        let specifications = validation::specifications(new.specifications.as_deref(), &mut errors);
        let NewProduct { id, sku, name, description, price, category, images, stock_quantity, .. } = new;
        let content = Content { name, description, price, category, images, specifications };
        validation::content(&content, &mut errors);
        let initial_stock = validation::initial_stock(stock_quantity, &mut errors);
        none_or_invalid(errors)?;

        let id = id.unwrap_or_else(ProductId::generate);
        let sku = sku.unwrap_or_else(|| implicit_sku(&id));
        let claim = StockCommand::Claim { product_id: id.clone() };
        let claim_id = CommandId::of(&["claim_sku", id.as_str()]);
        self.stock.ask(sku.as_str(), claim, ctx.command(claim_id)).await.map_err(|error| of_stock(&sku, error))?;

        let create = ProductCommand::Create { content, sku, initial_stock, at: Timestamp::from_millis(ctx.at_ms) };
        let create_id = CommandId::of(&["create_product", id.as_str()]);
        let created = self.products.ask(id.as_str(), create, ctx.command(create_id)).await?;
        // What was created first counts, also where a repeat asks for something else.
        if let Some(ProductEvent::Created { sku, initial_stock, .. }) = created.events.first() {
            self.until_received(sku, *initial_stock, ctx).await?;
        }
        self.product(&id).await
    }

    async fn until_received(&self, sku: &Sku, units: u32, ctx: &RequestContext) -> Result<(), ProductError> {
        let has_come = move |stock: &Stock| (stock.levels.received >= i64::from(units)).then_some(());
        self.stock.wait_until(sku.as_str(), ctx.deadline, has_come).await.map_err(|error| of_stock(sku, error))
    }

    /// Makes a product read differently, if it is still at `expected_version`. No difference, no new version.
    ///
    /// # Errors
    /// [`ProductError::NotFound`], [`ProductError::Invalid`], [`ProductError::Precondition`], [`ProductError::Busy`],
    /// [`ProductError::Unavailable`].
    pub async fn update_product(
        &self,
        id: &ProductId,
        change: ProductChange,
        expected_version: u64,
        ctx: &RequestContext,
    ) -> Result<ProductDetail, ProductError> {
        let present = self.products.read(id.as_str(), ctx.deadline, |state, _| state.record.clone()).await?;
        let present = present.filter(|record| !record.archived).ok_or(ProductError::NotFound)?.content;
        let mut errors = Vec::new();
        let specifications = match change.specifications.as_deref() {
            Some(text) => validation::specifications(Some(text), &mut errors),
            None => present.specifications,
        };
        let content = Content {
            name: change.name.unwrap_or(present.name),
            description: change.description.unwrap_or(present.description),
            price: change.price.unwrap_or(present.price),
            category: change.category.unwrap_or(present.category),
            images: change.images.unwrap_or(present.images),
            specifications,
        };
        validation::content(&content, &mut errors);
        none_or_invalid(errors)?;
        let update = ProductCommand::Update { content, expected_version, at: Timestamp::from_millis(ctx.at_ms) };
        self.products.ask(id.as_str(), update, ctx.command(fresh_command_id())).await?;
        self.product(id).await
    }

    /// Takes a product out of the catalogue, if it is still at `expected_version`. Its stock and its orders stay.
    ///
    /// # Errors
    /// [`ProductError::NotFound`], [`ProductError::Precondition`], [`ProductError::Busy`], [`ProductError::Unavailable`].
    pub async fn archive_product(
        &self,
        id: &ProductId,
        expected_version: u64,
        ctx: &RequestContext,
    ) -> Result<(), ProductError> {
        let archive = ProductCommand::Archive { expected_version, at: Timestamp::from_millis(ctx.at_ms) };
        self.products.ask(id.as_str(), archive, ctx.command(fresh_command_id())).await?;
        Ok(())
    }

    /// Corrects the units on hand. `command_key` names the request within its SKU: the same key again gives the first
    /// outcome. Whoever takes keys from clients puts the client into the key.
    ///
    /// # Errors
    /// [`ProductError::Invalid`], [`ProductError::NotFound`], [`ProductError::InsufficientStock`],
    /// [`ProductError::OnHandDiffers`], [`ProductError::Busy`], [`ProductError::Unavailable`].
    pub async fn adjust_stock(
        &self,
        adjustment: Adjustment,
        command_key: &str,
        ctx: &RequestContext,
    ) -> Result<StockMovement, ProductError> {
        let mut errors = Vec::new();
        validation::adjustment(&adjustment, &mut errors);
        none_or_invalid(errors)?;
        let Adjustment { sku, delta, reason, reference, expected_on_hand } = adjustment;
        let adjust = StockCommand::Adjust { delta, reason, reference, expected_on_hand };
        let meta = ctx.command(CommandId::of(&["adjust_stock", command_key]));
        let mut accepted = self.stock.ask(sku.as_str(), adjust, meta).await.map_err(|error| of_stock(&sku, error))?;
        match accepted.events.pop() {
            Some(StockEvent::Adjusted { delta, reason, reference, on_hand_after }) => Ok(StockMovement {
                sku,
                delta,
                on_hand_after,
                reason,
                reference,
                sequence: accepted.version,
                is_repeat: accepted.is_repeat,
            }),
            other => {
                tracing::error!(%sku, ?other, "a correction under this key came to something else");
                Err(ProductError::Unavailable)
            }
        }
    }
}

fn none_or_invalid(errors: Vec<FieldError>) -> Result<(), ProductError> {
    if errors.is_empty() { Ok(()) } else { Err(ProductError::Invalid(errors)) }
}

/// The SKU of a product that names none: the same suffix.
fn implicit_sku(id: &ProductId) -> Sku {
    let suffix = id.as_str().strip_prefix(ProductId::PREFIX).expect("an id starts with its prefix");
    Sku::parse(&format!("{}{suffix}", Sku::PREFIX)).expect("all ids share one alphabet and length of suffix")
}

/// For what the expected version already keeps from happening twice.
fn fresh_command_id() -> CommandId {
    CommandId::of(&["request", EventId::generate().as_str()])
}
