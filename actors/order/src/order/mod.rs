//! An order: one writer decides what it becomes.
//!
//! - `command`, `event`: its language; `draft`, `stock`, `status`, `terms`: the words in it
//! - `state`: what it is, and how events change it; `debts`: the part of it that others owe an answer for
//! - `decisions`: what it makes of a command; `late_payment`: of money that comes after its time
//! - `views`: its rows in the read model

use runtime::{Entity, EntityId, ViewWrite, totals::Counts};

mod command;
mod debts;
mod decisions;
mod draft;
mod event;
#[cfg(test)]
mod golden_corpus;
mod late_payment;
mod state;
mod status;
mod stock;
mod terms;
#[cfg(test)]
mod tests;
pub(crate) mod views;

pub use self::{
    command::{OrderCommand, OrderRefusal},
    debts::{ASKED_AGAIN_AFTER_MAX_MS, ASKED_AGAIN_AFTER_MS, Debts, IN_VAIN},
    draft::{Address, Draft},
    event::{AskedAgain, OrderEvent, OwedRefund, OwedStock},
    late_payment::REACQUIRED_WITHIN_MS,
    state::{EXPIRED, LatePayment, Order},
    status::OrderStatus,
    stock::{Hold, Shortfall},
    terms::{PAYABLE_FOR_MS, PAYMENT_WINDOW_MS, PLACING_FOR_MS, Terms},
};

/// The entity; its id is the order's id.
pub struct OrderEntity;

impl Entity for OrderEntity {
    const KIND: &'static str = "order";
    const TABLES: &'static [&'static str] = &[views::TABLES];
    const STATE_VERSION: u32 = 2;
    const VIEW_VERSION: u32 = 2;
    const ADD_TO_TOTALS: &'static str = views::ADD_TO_SUMS;
    type State = Option<Order>;
    type Command = OrderCommand;
    type Event = OrderEvent;
    type Refusal = OrderRefusal;

    fn decide(state: &Option<Order>, command: OrderCommand) -> Result<Vec<OrderEvent>, OrderRefusal> {
        match state {
            None => decisions::without_order(command),
            Some(order) => decisions::of_order(order, command),
        }
    }

    fn evolve(state: &mut Option<Order>, event: &OrderEvent) {
        if let OrderEvent::Submitted { draft, at, expires_at } = event {
            *state = Some(state::submitted(draft, *at, *expires_at));
        } else if let Some(order) = state {
            state::evolve(order, event);
            order.published += event.publishes();
            order.debts.note(event);
        }
    }

    fn published(state: &Option<Order>) -> Option<u64> {
        Some(state.as_ref().map_or(0, |order| order.published))
    }

    fn counts(state: &Option<Order>) -> Option<Counts> {
        state.as_ref().and_then(views::counts)
    }

    fn views(id: &EntityId, state: &Option<Order>, event: &OrderEvent, at_ms: i64) -> Vec<ViewWrite> {
        views::of(id, state.as_ref(), event, at_ms)
    }
}
