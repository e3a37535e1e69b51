//! One SKU's stock: who holds how much of it, and what is left.
//!
//! It is the only writer of its numbers, so nothing is ever promised twice. Every reservation gets exactly one first answer,
//! as an event, so that the one who asked hears of it through the journal: a reservation that does not fit is an event too,
//! and no refusal. All of it is idempotent by reservation id, whatever the command's id. It does not watch the clock: when a
//! hold has run out, its order releases it; one that is paid before that is still held, so committing it takes from nobody.
//! Where the order does not, the sweep of [`crate::holds`] has it asked.

use std::collections::{HashMap, VecDeque};

use contracts::{
    OrderId, ProductId, Quantity, ReservationId, Timestamp,
    messages::{ReservationStanding, Settlement},
};
use runtime::{Entity, EntityId, ViewWrite, entity::EventPayload};
use serde::{Deserialize, Serialize};

use crate::{
    levels::{Levels, ON_HAND_MAX},
    views::{ASK_AGAIN_AT, STOCK_TABLES, UPSERT_RESERVATION, UPSERT_STOCK},
};

#[cfg(test)]
mod tests;

/// How many released and rejected reservations one SKU remembers, at some 200 bytes each, the oldest forgotten first. A
/// repeat of a command is known by its id for ever; this is for a *new* command about an old reservation. Forgotten, it
/// is decided like an unknown one.
const CLOSED_REMEMBERED_MAX: usize = 16_384;
/// Why units are set free that their order asked for again.
const ASKED_AGAIN: &str = "asked_again";

/// The entity; its id is the SKU.
pub struct StockItem;

/// What may be asked.
#[derive(Clone, Debug)]
pub enum StockCommand {
    /// This SKU is this product's from now on.
    Claim { product_id: ProductId },
    /// Units came in.
    Receive { product_id: ProductId, quantity: u32, reason: String },
    /// Somebody counted: correct the units on hand by `delta`, if they are as many as expected.
    Adjust { delta: i64, reason: String, reference: Option<String>, expected_on_hand: Option<i64> },
    /// Hold this much for an order.
    Reserve { reservation_id: ReservationId, order_id: OrderId, quantity: Quantity, expires_at: Timestamp },
    /// What is held is sold. What is no longer held is taken again, if it is there.
    Commit { reservation_id: ReservationId, order_id: OrderId },
    /// What is held or sold is free again.
    Release { reservation_id: ReservationId, reason: String },
    /// Asked again for want of an answer: the same as `Commit` or `Release`, but answered where there is nothing to do.
    Settle { reservation_id: ReservationId, order_id: OrderId, wanted: Settlement },
    /// It is held beyond its time: ask the order that it is held for. `ask_again_at` is when that is due once more.
    AskOwner { reservation_id: ReservationId, expires_at: Timestamp, ask_again_at: Timestamp },
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum StockEvent {
    /// The SKU is this product's.
    Claimed { product_id: ProductId },
    /// Units came in.
    Received { product_id: ProductId, quantity: u32, reason: String, on_hand_after: i64 },
    /// The units on hand were corrected.
    Adjusted { delta: i64, reason: String, reference: Option<String>, on_hand_after: i64 },
    /// Units are held.
    Reserved {
        reservation_id: ReservationId,
        order_id: OrderId,
        quantity: Quantity,
        expires_at: Timestamp,
        available_after: i64,
    },
    /// They were not there.
    ReservationRejected { reservation_id: ReservationId, order_id: OrderId, requested: Quantity, available: i64 },
    /// What was held is sold.
    Committed { reservation_id: ReservationId, order_id: OrderId, quantity: Quantity },
    /// What was no longer held was there, and is sold.
    Reacquired { reservation_id: ReservationId, order_id: OrderId, quantity: Quantity },
    /// What was no longer held was not there. Of an unknown reservation at least one unit is requested.
    CommitRejected { reservation_id: ReservationId, order_id: OrderId, requested: Quantity, available: i64 },
    /// What was held or sold is free again.
    Released { reservation_id: ReservationId, order_id: OrderId, quantity: Quantity, reason: String },
    /// Somebody asked again, and nothing was to do: this is where the reservation stands.
    Settled { reservation_id: ReservationId, order_id: OrderId, standing: ReservationStanding },
    /// Units are held beyond their time: the order that they are held for is asked.
    HoldOverdue {
        reservation_id: ReservationId,
        order_id: OrderId,
        quantity: Quantity,
        expires_at: Timestamp,
        ask_again_at: Timestamp,
    },
}

impl EventPayload for StockEvent {
    fn event_type(&self) -> &'static str {
        match self {
            Self::Claimed { .. } => "stock.claimed",
            Self::Received { .. } => "stock.received",
            Self::Adjusted { .. } => "stock.adjusted",
            Self::Reserved { .. } => "stock.reserved",
            Self::ReservationRejected { .. } => "stock.reservation_rejected",
            Self::Committed { .. } => "stock.committed",
            Self::Reacquired { .. } => "stock.reacquired",
            Self::CommitRejected { .. } => "stock.commit_rejected",
            Self::Released { .. } => "stock.released",
            Self::Settled { .. } => "stock.settled",
            Self::HoldOverdue { .. } => "stock.hold_overdue",
        }
    }
}

impl StockEvent {
    /// How many numbered messages it gives rise to. Never another number for an event of a journal: the numbers of the
    /// messages after it stand on it. A test holds it against [`crate::outbox`].
    pub const fn publishes(&self) -> u64 {
        match self {
            Self::Claimed { .. } => 0,
            Self::Received { .. }
            | Self::Adjusted { .. }
            | Self::Reserved { .. }
            | Self::ReservationRejected { .. }
            | Self::Committed { .. }
            | Self::Reacquired { .. }
            | Self::CommitRejected { .. }
            | Self::Settled { .. }
            | Self::HoldOverdue { .. }
            | Self::Released { .. } => 1,
        }
    }
}

/// Where a reservation stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ReservationStatus {
    /// Held.
    Reserved,
    /// Sold.
    Committed,
    /// Free again.
    Released,
    /// Never held.
    Rejected,
}

impl ReservationStatus {
    const fn name(self) -> &'static str {
        match self {
            Self::Reserved => "reserved",
            Self::Committed => "committed",
            Self::Released => "released",
            Self::Rejected => "rejected",
        }
    }
}

/// What an order holds, held or wanted of this SKU.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Reservation {
    pub order_id: OrderId,
    pub quantity: Quantity,
    pub status: ReservationStatus,
}

/// The ledger's present state.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Stock {
    /// Whose SKU it is; `None` while nobody has claimed it.
    pub product_id: Option<ProductId>,
    pub levels: Levels,
    pub reservations: HashMap<ReservationId, Reservation>,
    /// Those released or rejected, the oldest first: at most [`CLOSED_REMEMBERED_MAX`].
    closed: VecDeque<ReservationId>,
    /// How often the levels have changed.
    pub version: u64,
    /// The numbered messages it has published.
    pub published: u64,
}

impl Stock {
    fn set_status(&mut self, reservation_id: &ReservationId, status: ReservationStatus) {
        if let Some(reservation) = self.reservations.get_mut(reservation_id) {
            reservation.status = status;
        }
    }

    /// Remembers a reservation that holds nothing any more, and forgets the oldest of these beyond the bound.
    fn close(
        &mut self,
        reservation_id: &ReservationId,
        order_id: &OrderId,
        quantity: Quantity,
        status: ReservationStatus,
    ) {
        let reservation = Reservation { order_id: order_id.clone(), quantity, status };
        self.reservations.insert(reservation_id.clone(), reservation);
        self.closed.push_back(reservation_id.clone());
        if self.closed.len() <= CLOSED_REMEMBERED_MAX {
            return;
        }
        let Some(oldest) = self.closed.pop_front() else { return };
        let holds_nothing = |reservation: &Reservation| {
            matches!(reservation.status, ReservationStatus::Released | ReservationStatus::Rejected)
        };
        // One that was taken again since then counts, and stays.
        if self.reservations.get(&oldest).is_some_and(holds_nothing) {
            self.reservations.remove(&oldest);
        }
    }
}

/// Why not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum StockRefusal {
    /// The SKU is another product's.
    SkuTaken { by: ProductId },
    /// Nobody has claimed this SKU.
    UnknownSku,
    /// The correction would take away what is promised.
    InsufficientStock { available: i64 },
    /// There are not as many on hand as expected.
    OnHandDiffers { on_hand: i64 },
    /// There would be more than [`ON_HAND_MAX`].
    TooMany { on_hand: i64 },
}

type Decision = Result<Vec<StockEvent>, StockRefusal>;

impl Entity for StockItem {
    const KIND: &'static str = "stock";
    const TABLES: &'static [&'static str] = &[STOCK_TABLES];
    const VIEW_VERSION: u32 = 2;
    type State = Stock;
    type Command = StockCommand;
    type Event = StockEvent;
    type Refusal = StockRefusal;

    fn decide(stock: &Stock, command: StockCommand) -> Decision {
        match command {
            StockCommand::Claim { product_id } => claim(stock, product_id),
            StockCommand::Receive { product_id, quantity, reason } => receive(stock, product_id, quantity, reason),
            StockCommand::Adjust { delta, reason, reference, expected_on_hand } => {
                let on_hand_after = adjusted(stock, delta, expected_on_hand)?;
                Ok(vec![StockEvent::Adjusted { delta, reason, reference, on_hand_after }])
            }
            StockCommand::Reserve { reservation_id, order_id, quantity, expires_at } => {
                Ok(reserve(stock, reservation_id, order_id, quantity, expires_at))
            }
            StockCommand::Commit { reservation_id, order_id } => Ok(commit(stock, reservation_id, order_id)),
            StockCommand::Release { reservation_id, reason } => Ok(release(stock, reservation_id, reason)),
            StockCommand::Settle { reservation_id, order_id, wanted } => {
                Ok(settle(stock, reservation_id, order_id, wanted))
            }
            StockCommand::AskOwner { reservation_id, expires_at, ask_again_at } => {
                Ok(ask_owner(stock, reservation_id, expires_at, ask_again_at))
            }
        }
    }

    fn published(stock: &Stock) -> Option<u64> {
        Some(stock.published)
    }

    fn evolve(stock: &mut Stock, event: &StockEvent) {
        match event {
            StockEvent::Claimed { product_id } => stock.product_id = Some(product_id.clone()),
            StockEvent::Received { product_id, quantity, .. } => {
                stock.product_id = Some(product_id.clone());
                stock.levels.received += i64::from(*quantity);
            }
            StockEvent::Adjusted { delta, .. } => stock.levels.adjusted += delta,
            StockEvent::Reserved { reservation_id, order_id, quantity, .. } => {
                stock.levels.reserved += units(*quantity);
                let (order_id, status) = (order_id.clone(), ReservationStatus::Reserved);
                stock
                    .reservations
                    .insert(reservation_id.clone(), Reservation { order_id, quantity: *quantity, status });
            }
            StockEvent::ReservationRejected { reservation_id, order_id, requested, .. } => {
                stock.close(reservation_id, order_id, *requested, ReservationStatus::Rejected);
            }
            StockEvent::Committed { reservation_id, quantity, .. } => {
                stock.levels.reserved -= units(*quantity);
                stock.levels.committed += units(*quantity);
                stock.set_status(reservation_id, ReservationStatus::Committed);
            }
            StockEvent::Reacquired { reservation_id, quantity, .. } => {
                stock.levels.committed += units(*quantity);
                stock.set_status(reservation_id, ReservationStatus::Committed);
            }
            StockEvent::CommitRejected { .. } | StockEvent::Settled { .. } | StockEvent::HoldOverdue { .. } => {}
            StockEvent::Released { reservation_id, order_id, quantity, .. } => {
                match stock.reservations.get(reservation_id).map(|reservation| reservation.status) {
                    Some(ReservationStatus::Reserved) => stock.levels.reserved -= units(*quantity),
                    Some(ReservationStatus::Committed) => stock.levels.committed -= units(*quantity),
                    Some(ReservationStatus::Released | ReservationStatus::Rejected) | None => {}
                }
                stock.close(reservation_id, order_id, *quantity, ReservationStatus::Released);
            }
        }
        stock.version += u64::from(changes_stock(event));
        stock.published += event.publishes();
        debug_assert!(stock.levels.are_sound(), "{:?} after {event:?}", stock.levels);
    }

    fn views(sku: &EntityId, stock: &Stock, event: &StockEvent, _: i64) -> Vec<ViewWrite> {
        if let StockEvent::HoldOverdue { reservation_id, ask_again_at, .. } = event {
            let params = vec![reservation_id.as_str().into(), (&**sku).into(), ask_again_at.as_millis().into()];
            return vec![ViewWrite::new(ASK_AGAIN_AT, params)];
        }
        // A rejection, of which a sale brings more than of anything else, writes no row.
        if !changes_stock(event) {
            return Vec::new();
        }
        let mut writes = vec![stock_row(sku, stock)];
        writes.extend(reservation_row(sku, event));
        writes
    }
}

fn claim(stock: &Stock, product_id: ProductId) -> Decision {
    match &stock.product_id {
        Some(owner) if *owner == product_id => Ok(vec![]),
        Some(owner) => Err(StockRefusal::SkuTaken { by: owner.clone() }),
        None => Ok(vec![StockEvent::Claimed { product_id }]),
    }
}

fn receive(stock: &Stock, product_id: ProductId, quantity: u32, reason: String) -> Decision {
    if let Some(owner) = &stock.product_id
        && *owner != product_id
    {
        return Err(StockRefusal::SkuTaken { by: owner.clone() });
    }
    if quantity == 0 {
        return Ok(vec![]);
    }
    let on_hand_after = on_hand_after(stock, i64::from(quantity))?;
    Ok(vec![StockEvent::Received { product_id, quantity, reason, on_hand_after }])
}

/// The units on hand after a correction.
fn adjusted(stock: &Stock, delta: i64, expected_on_hand: Option<i64>) -> Result<i64, StockRefusal> {
    let (on_hand, available) = (stock.levels.on_hand(), stock.levels.available());
    if stock.product_id.is_none() {
        return Err(StockRefusal::UnknownSku);
    }
    if expected_on_hand.is_some_and(|expected| expected != on_hand) {
        return Err(StockRefusal::OnHandDiffers { on_hand });
    }
    if available.saturating_add(delta) < 0 {
        return Err(StockRefusal::InsufficientStock { available });
    }
    on_hand_after(stock, delta)
}

fn on_hand_after(stock: &Stock, delta: i64) -> Result<i64, StockRefusal> {
    let on_hand = stock.levels.on_hand();
    match on_hand.saturating_add(delta) {
        after if after <= ON_HAND_MAX => Ok(after),
        _ => Err(StockRefusal::TooMany { on_hand }),
    }
}

fn reserve(
    stock: &Stock,
    reservation_id: ReservationId,
    order_id: OrderId,
    quantity: Quantity,
    expires_at: Timestamp,
) -> Vec<StockEvent> {
    if stock.reservations.contains_key(&reservation_id) {
        return vec![];
    }
    let available = stock.levels.available();
    let available_after = available - units(quantity);
    vec![if available_after >= 0 {
        StockEvent::Reserved { reservation_id, order_id, quantity, expires_at, available_after }
    } else {
        StockEvent::ReservationRejected { reservation_id, order_id, requested: quantity, available }
    }]
}

fn commit(stock: &Stock, reservation_id: ReservationId, order_id: OrderId) -> Vec<StockEvent> {
    let available = stock.levels.available();
    let Some(reservation) = stock.reservations.get(&reservation_id) else {
        // Whoever commits waits for an answer, and may have taken money: it gets one.
        return vec![StockEvent::CommitRejected { reservation_id, order_id, requested: Quantity::ONE, available }];
    };
    let (order_id, quantity) = (reservation.order_id.clone(), reservation.quantity);
    match reservation.status {
        ReservationStatus::Reserved => vec![StockEvent::Committed { reservation_id, order_id, quantity }],
        ReservationStatus::Committed => vec![],
        ReservationStatus::Released | ReservationStatus::Rejected if units(quantity) <= available => {
            vec![StockEvent::Reacquired { reservation_id, order_id, quantity }]
        }
        ReservationStatus::Released | ReservationStatus::Rejected => {
            vec![StockEvent::CommitRejected { reservation_id, order_id, requested: quantity, available }]
        }
    }
}

fn release(stock: &Stock, reservation_id: ReservationId, reason: String) -> Vec<StockEvent> {
    let Some(reservation) = stock.reservations.get(&reservation_id) else { return vec![] };
    match reservation.status {
        ReservationStatus::Reserved | ReservationStatus::Committed => vec![StockEvent::Released {
            order_id: reservation.order_id.clone(),
            quantity: reservation.quantity,
            reservation_id,
            reason,
        }],
        ReservationStatus::Released | ReservationStatus::Rejected => vec![],
    }
}

/// Whoever asks again gets an answer in any case: the event that did it, or where the reservation stands.
fn settle(stock: &Stock, reservation_id: ReservationId, order_id: OrderId, wanted: Settlement) -> Vec<StockEvent> {
    let events = match wanted {
        Settlement::Committed => commit(stock, reservation_id.clone(), order_id.clone()),
        Settlement::Released => release(stock, reservation_id.clone(), ASKED_AGAIN.to_owned()),
    };
    if !events.is_empty() {
        return events;
    }
    let standing = stock.reservations.get(&reservation_id).map_or(ReservationStanding::Unknown, |reservation| {
        match reservation.status {
            ReservationStatus::Reserved => ReservationStanding::Reserved,
            ReservationStatus::Committed => ReservationStanding::Committed,
            ReservationStatus::Released => ReservationStanding::Released,
            ReservationStatus::Rejected => ReservationStanding::Rejected,
        }
    });
    vec![StockEvent::Settled { reservation_id, order_id, standing }]
}

/// Only what is held has an owner to ask: what is sold, free or unknown is decided.
fn ask_owner(
    stock: &Stock,
    reservation_id: ReservationId,
    expires_at: Timestamp,
    ask_again_at: Timestamp,
) -> Vec<StockEvent> {
    match stock.reservations.get(&reservation_id) {
        Some(reservation) if reservation.status == ReservationStatus::Reserved => vec![StockEvent::HoldOverdue {
            order_id: reservation.order_id.clone(),
            quantity: reservation.quantity,
            reservation_id,
            expires_at,
            ask_again_at,
        }],
        _ => vec![],
    }
}

fn units(quantity: Quantity) -> i64 {
    i64::from(quantity.get())
}

fn changes_stock(event: &StockEvent) -> bool {
    !matches!(
        event,
        StockEvent::ReservationRejected { .. }
            | StockEvent::CommitRejected { .. }
            | StockEvent::Settled { .. }
            | StockEvent::HoldOverdue { .. }
    )
}

fn stock_row(sku: &EntityId, stock: &Stock) -> ViewWrite {
    let levels = &stock.levels;
    ViewWrite::new(
        UPSERT_STOCK,
        vec![
            (&**sku).into(),
            stock.product_id.as_ref().map(ProductId::as_str).into(),
            levels.received.into(),
            levels.adjusted.into(),
            levels.on_hand().into(),
            levels.reserved.into(),
            levels.committed.into(),
            levels.available().into(),
            stock.version.cast_signed().into(),
        ],
    )
}

fn reservation_row(sku: &EntityId, event: &StockEvent) -> Option<ViewWrite> {
    let (reservation_id, order_id, quantity, expires_at, status) = match event {
        StockEvent::Reserved { reservation_id, order_id, quantity, expires_at, .. } => {
            (reservation_id, order_id, quantity, Some(expires_at.as_millis()), ReservationStatus::Reserved)
        }
        StockEvent::Committed { reservation_id, order_id, quantity }
        | StockEvent::Reacquired { reservation_id, order_id, quantity } => {
            (reservation_id, order_id, quantity, None, ReservationStatus::Committed)
        }
        StockEvent::Released { reservation_id, order_id, quantity, .. } => {
            (reservation_id, order_id, quantity, None, ReservationStatus::Released)
        }
        StockEvent::Claimed { .. }
        | StockEvent::Received { .. }
        | StockEvent::Adjusted { .. }
        | StockEvent::ReservationRejected { .. }
        | StockEvent::CommitRejected { .. }
        | StockEvent::Settled { .. }
        | StockEvent::HoldOverdue { .. } => return None,
    };
    let params = vec![
        reservation_id.as_str().into(),
        (&**sku).into(),
        order_id.as_str().into(),
        units(*quantity).into(),
        status.name().into(),
        expires_at.into(),
    ];
    Some(ViewWrite::new(UPSERT_RESERVATION, params))
}
