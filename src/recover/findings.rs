//! What does not fit together: positions against logs, logs against their witnesses, stock and money against orders.
//!
//! Reading only. Where a log is not here (another process has it), what depends on it is not judged.

use std::{collections::HashSet, sync::Arc};

use contracts::{PaymentId, RefundId, Service};
use order_service::{OrderStatus, recovery::order_in};
use payment_service::{
    Payment,
    recovery::{ChargeHeld, capture_of, held_charges, held_money, is_known},
};
use product_service::recovery::{HeldStock, held_stock};
use runtime::{
    Journal, JournalError, LogMark,
    journal::{compare::compare, identity::Contradiction},
};

use super::logs::Logs;
use crate::{
    bus::{embedded::position_name, heard_by},
    log_watch::{BOOKS, watched},
};

/// Rows read at once.
const PAGE: u32 = 1_000;
/// The most findings of one kind; what is beyond is found by the next run.
const FINDINGS_MAX: usize = 100_000;
/// The most of a kind that are listed one by one.
const LISTED_MAX: usize = 20;

/// A reader's position that is not one of the log.
pub struct WrongPosition {
    pub reader: Service,
    /// The log.
    pub source: &'static str,
    /// Under which name the reader keeps it.
    pub name: Arc<str>,
    pub mark: LogMark,
    pub contradiction: Contradiction,
}

/// Money that no order knows of.
pub struct OwedMoney {
    pub payment: Payment,
    pub held_minor: i64,
    /// The refund under which the order would ask for it, too.
    pub refund_id: RefundId,
}

/// Over which bus the services hear each other.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Bus {
    /// Positions in the logs say what has been heard, and go back with a copy: what was lost is heard again.
    Embedded,
    /// The groups' offsets are Kafka's: a log that went back does not hear again what it had heard.
    Kafka,
}

/// See the module's text.
#[derive(Default)]
pub struct Findings {
    /// Each log in a line.
    logs: Vec<String>,
    /// What the logs are told: by their witnesses, and in a shop that runs by their readers and relays.
    pub said: Vec<(&'static str, String)>,
    pub positions: Vec<WrongPosition>,
    pub stock: Vec<HeldStock>,
    pub money: Vec<OwedMoney>,
    pub charges: Vec<ChargeHeld>,
    /// Charges that an order is paid by, and of which the payment's own record is lost.
    kept_charges: usize,
}

impl Findings {
    /// Looks through the logs.
    ///
    /// # Errors
    /// When one cannot be read.
    pub async fn of(logs: &Logs, bus: Bus) -> anyhow::Result<Self> {
        let mut found = Self::default();
        for log in logs.all() {
            let (identity, end) = (log.journal.identity(), *log.journal.committed().borrow());
            found.logs.push(format!(
                "{}: log {}, incarnation {}, {end} events",
                log.name, identity.log, identity.incarnation
            ));
            found.said.extend(log.journal.contradictions().sentences().into_iter().map(|said| (log.name, said)));
        }
        found.look_at_positions(logs).await?;
        found.look_at_stock(logs).await?;
        let orders_went_back = found.is_contradicted(Service::Order.name());
        found.look_at_money(logs, bus, orders_went_back).await?;
        found.look_at_charges(logs).await?;
        Ok(found)
    }

    /// True when nothing is to be done.
    pub fn is_empty(&self) -> bool {
        self.said.is_empty()
            && self.positions.is_empty()
            && self.stock.is_empty()
            && self.money.is_empty()
            && self.charges.is_empty()
    }

    fn is_contradicted(&self, log: &str) -> bool {
        self.said.iter().any(|(name, _)| *name == log) || self.positions.iter().any(|wrong| wrong.source == log)
    }

    async fn look_at_positions(&mut self, logs: &Logs) -> Result<(), JournalError> {
        for (reader, source, name) in positions() {
            let (Some(home), Some(log)) = (logs.of(reader), logs.named(source)) else { continue };
            let mark = home.position_of(Arc::clone(&name)).await?;
            if let Err(contradiction) = compare(mark, &**log).await? {
                self.positions.push(WrongPosition { reader, source, name, mark, contradiction });
            }
        }
        Ok(())
    }

    /// Units that are held or sold for an order that is not there, or for one whose release has been heard and is lost.
    async fn look_at_stock(&mut self, logs: &Logs) -> Result<(), JournalError> {
        let (Some(products), Some(orders)) = (logs.of(Service::Product), logs.of(Service::Order)) else {
            return Ok(());
        };
        let heard = products.position_of(position_name(Service::Product, Service::Order)).await?.position;
        let mut last: Option<HeldStock> = None;
        loop {
            let page = held_stock(&**products, last.as_ref(), PAGE).await?;
            for held in &page {
                let is_without_order = match order_in(&**orders, &held.order_id).await? {
                    None => true,
                    Some((order, changed)) => {
                        let is_off = matches!(order.status, OrderStatus::Cancelled | OrderStatus::Rejected);
                        is_off && heard >= changed
                    }
                };
                if is_without_order && self.stock.len() < FINDINGS_MAX {
                    self.stock.push(held.clone());
                }
            }
            match page.into_iter().next_back() {
                Some(held) => last = Some(held),
                None => return Ok(()),
            }
        }
    }

    /// Captured money that its order has not taken account of and will not hear of.
    async fn look_at_money(&mut self, logs: &Logs, bus: Bus, orders_went_back: bool) -> Result<(), JournalError> {
        let (Some(payments), Some(orders)) = (logs.of(Service::Payment), logs.of(Service::Order)) else {
            return Ok(());
        };
        let heard = orders.position_of(position_name(Service::Order, Service::Payment)).await?.position;
        let mut last: Option<PaymentId> = None;
        loop {
            let page = held_money(&**payments, last.as_ref(), PAGE).await?;
            for money in &page {
                if money.held_minor <= 0 || self.money.len() >= FINDINGS_MAX {
                    continue;
                }
                let order = order_in(&**orders, &money.payment.order_id).await?.map(|(order, _)| order);
                if order.as_ref().is_some_and(|order| order.captured_minor > 0) {
                    continue;
                }
                let Some(capture) = capture_of(&**payments, &money.payment).await? else { continue };
                // The order may yet be paid by it.
                let is_still_heard = match bus {
                    Bus::Embedded => capture.position > heard,
                    Bus::Kafka => !orders_went_back,
                };
                if order.is_some() && is_still_heard {
                    continue;
                }
                let refund_id = order_service::inbox::refund_of(money.payment.payment_id.as_str(), capture.at);
                self.money.push(OwedMoney { payment: money.payment.clone(), held_minor: money.held_minor, refund_id });
            }
            match page.into_iter().next_back() {
                Some(money) => last = Some(money.payment.payment_id),
                None => return Ok(()),
            }
        }
    }

    /// Charges at the sandbox provider of which the payment service knows nothing.
    async fn look_at_charges(&mut self, logs: &Logs) -> Result<(), JournalError> {
        let (Some(books), Some(payments), Some(orders)) =
            (logs.named(BOOKS), logs.of(Service::Payment), logs.of(Service::Order))
        else {
            return Ok(());
        };
        let (mut unknown, mut last) = (Vec::new(), String::new());
        loop {
            let page = held_charges(&**books, &last, PAGE).await?;
            for charge in &page {
                if unknown.len() < FINDINGS_MAX && !is_known(&**payments, &charge.charge_key).await? {
                    unknown.push(charge.clone());
                }
            }
            match page.into_iter().next_back() {
                Some(charge) => last = charge.charge_key,
                None => break,
            }
        }
        if unknown.is_empty() {
            return Ok(());
        }
        let payers = payers(orders).await?;
        let (kept, owed): (Vec<_>, Vec<_>) =
            unknown.into_iter().partition(|charge| payers.contains(&charge.charge_key));
        (self.kept_charges, self.charges) = (kept.len(), owed);
        Ok(())
    }

    /// All of it for people.
    pub fn lines(&self) -> Vec<String> {
        let mut lines = self.logs.clone();
        let positions = self.positions.iter().map(|wrong| {
            format!(
                "position of {} in the log of {}: {}; it is set to {}",
                wrong.reader,
                wrong.source,
                wrong.contradiction,
                if wrong.is_read_again() {
                    "the log's start, and what is known already is left out"
                } else {
                    "the log's end"
                }
            )
        });
        list(
            &mut lines,
            "does not fit",
            self.said.iter().map(|(name, said)| format!("{name}: {said}")).chain(positions),
        );
        list(
            &mut lines,
            "stock without an order, to be freed",
            self.stock.iter().map(|held| {
                let state = if held.is_committed { "sold" } else { "held" };
                format!("{} of {}, {state} for order {}", held.units, held.sku, held.order_id)
            }),
        );
        list(
            &mut lines,
            "money without an order, to be given back",
            self.money.iter().map(|owed| {
                let payment = &owed.payment;
                let currency = payment.currency.code();
                format!(
                    "{} {currency} (minor units) of payment {} for order {}",
                    owed.held_minor, payment.payment_id, payment.order_id
                )
            }),
        );
        list(
            &mut lines,
            "money at the sandbox provider without a payment, to be given back there",
            self.charges
                .iter()
                .map(|charge| format!("{} (minor units) of charge {}", charge.held_minor, charge.charge_key)),
        );
        if self.kept_charges > 0 {
            lines.push(format!(
                "{} paid orders have lost their payment's record; their money stays where it is",
                self.kept_charges
            ));
        }
        let units: i64 = self.stock.iter().map(|held| held.units).sum();
        let money: i64 = self.money.iter().map(|owed| owed.held_minor).sum();
        lines.push(if self.is_empty() {
            super::ALL_FITS.to_owned()
        } else {
            format!(
                "{} contradictions; {units} units in {} holds and {money} minor units in {} payments without an order; \
                 {} charges without a payment. `microcommerce recover --apply` reconciles them while the shop is stopped",
                self.said.len() + self.positions.len(),
                self.stock.len(),
                self.money.len(),
                self.charges.len()
            )
        });
        lines
    }
}

impl WrongPosition {
    /// Whether all of the log is to be read again: what the reader has read may be of another history. A log that is the same and
    /// only shorter has been read whole.
    pub fn is_read_again(&self) -> bool {
        let is_shorter = matches!(self.contradiction, Contradiction::BeyondTheEnd { .. });
        !is_shorter || self.mark.event.is_none()
    }
}

/// Every position that one log keeps in another: who keeps it, in which log, and under which name.
fn positions() -> Vec<(Service, &'static str, Arc<str>)> {
    let mut positions: Vec<_> = watched().collect();
    for reader in Service::ALL {
        for source in heard_by(reader).0 {
            positions.push((reader, source.name(), position_name(reader, *source)));
        }
    }
    positions
}

async fn payers(orders: &Arc<dyn Journal>) -> Result<HashSet<String>, JournalError> {
    let (mut payers, mut last) = (HashSet::new(), None);
    loop {
        let page = order_service::recovery::payers(&**orders, last.as_ref(), PAGE).await?;
        payers.extend(page.iter().filter_map(|(_, payment_id)| payment_id.as_ref().map(ToString::to_string)));
        match page.into_iter().next_back() {
            Some((order_id, _)) => last = Some(order_id),
            None => return Ok(payers),
        }
    }
}

fn list(lines: &mut Vec<String>, what: &str, found: impl Iterator<Item = String>) {
    let found: Vec<String> = found.collect();
    if found.is_empty() {
        return;
    }
    lines.push(format!("{what} ({}):", found.len()));
    lines.extend(found.iter().take(LISTED_MAX).map(|line| format!("  {line}")));
    if found.len() > LISTED_MAX {
        lines.push(format!("  … and {} more", found.len() - LISTED_MAX));
    }
}
