//! The provider in the house: no money moves, but its books are kept as a real one would keep them.
//!
//! It has a database of its own, apart from the payment service's, so that "captured money equals paid orders" is a check
//! of two sets of books and not of one against itself. What a card does is fixed by its number, as in every sandbox; the
//! token says what it will do and not what the number was.

use std::sync::Arc;

use contracts::{Currency, Timestamp};
use futures::{FutureExt, future::BoxFuture};
use hmac::{Hmac, KeyInit, Mac};
use runtime::{
    AskError, CommandId, CommandMeta, Entities, EntitiesConfig, Entity, EntityId, Gate, Journal, Roster, ViewSchema,
    ViewWrite, entity::EventPayload, operation, supervision::ChildSpec, totals::Counts,
};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use super::{Charge, ChargeOutcome, Method, Provider, ProviderDown, Refunding, VoidOutcome};
use crate::card::Card;

/// The read model of its books: what their journal must be opened with.
pub const VIEWS: &[ViewSchema] = &[ViewSchema::of::<BookedCharge>()];

const TABLES: &str = "
CREATE TABLE IF NOT EXISTS charges (
    charge_key     TEXT    NOT NULL PRIMARY KEY,
    captured_minor INTEGER NOT NULL,
    refunded_minor INTEGER NOT NULL
) STRICT;
-- The sums over all charges: one row, kept with each change of one.
CREATE TABLE IF NOT EXISTS charge_sums (
    one            INTEGER NOT NULL PRIMARY KEY CHECK (one = 1),
    captured_minor INTEGER NOT NULL,
    refunded_minor INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
";
const UPSERT: &str = "INSERT INTO charges (charge_key, captured_minor, refunded_minor) VALUES (?1, ?2, ?3) ON CONFLICT \
                      (charge_key) DO UPDATE SET captured_minor = excluded.captured_minor, \
                      refunded_minor = excluded.refunded_minor";
/// What is added to the sums.
const ADD_TO_SUMS: &str = "INSERT INTO charge_sums (one, captured_minor, refunded_minor) VALUES (?1, ?2, ?3) \
                           ON CONFLICT (one) DO UPDATE SET \
                           captured_minor = charge_sums.captured_minor + excluded.captured_minor, \
                           refunded_minor = charge_sums.refunded_minor + excluded.refunded_minor";
/// No row before the first charge.
const SUMS: &str = "SELECT captured_minor, refunded_minor FROM charge_sums WHERE one = 1";

/// How long it may take to answer.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(5);
/// Why a charge that was called off is declined.
const CALLED_OFF: &str = "voided";
/// Its name in events.
const NAME: &str = "sandbox";
/// The card that is accepted whatever its expiry.
pub const EVERGREEN_CARD: &str = "4111111111111111";

/// What a card does, by its number. Cards that stand for nothing here are declined: a sandbox takes no real card.
fn token_of(number: &str) -> &'static str {
    match number {
        EVERGREEN_CARD | "4242424242424242" => "tok_approved",
        "4000000000000002" => "tok_card_declined",
        "4000000000009995" => "tok_insufficient_funds",
        "4000000000000069" => "tok_expired_card",
        "4000000000000127" => "tok_incorrect_cvc",
        "4000000000000119" => "tok_processing_error",
        "4000002500003155" => "tok_requires_action",
        _ => "tok_not_a_test_card",
    }
}

/// A charge in its books; its id is the idempotency key.
struct BookedCharge;

#[derive(Clone, Debug)]
enum BookCommand {
    Capture { token: String, amount_minor: i64, currency: Currency, is_authenticated: bool, at: Timestamp },
    CallOff {},
    GiveBack { key: String, amount_minor: i64 },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Booked {
    Captured { amount_minor: i64, currency: Currency, at: Timestamp },
    Declined { code: String },
    ActionRequired {},
    CalledOff {},
    GivenBack { key: String, amount_minor: i64 },
}

impl EventPayload for Booked {
    fn event_type(&self) -> &'static str {
        match self {
            Self::Captured { .. } => "charge.captured",
            Self::Declined { .. } => "charge.declined",
            Self::ActionRequired {} => "charge.action_required",
            Self::CalledOff {} => "charge.called_off",
            Self::GivenBack { .. } => "charge.given_back",
        }
    }
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Book {
    captured: Option<(i64, Timestamp)>,
    declined: Option<String>,
    given_back: Vec<(String, i64)>,
}

impl Book {
    fn captured_minor(&self) -> i64 {
        self.captured.map_or(0, |(amount, _)| amount)
    }

    fn given_back_minor(&self) -> i64 {
        self.given_back.iter().map(|(_, amount)| amount).sum()
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct MoreThanCaptured;

impl Entity for BookedCharge {
    const KIND: &'static str = "charge";
    const TABLES: &'static [&'static str] = &[TABLES];
    const ADD_TO_TOTALS: &'static str = ADD_TO_SUMS;
    type State = Book;
    type Command = BookCommand;
    type Event = Booked;
    type Refusal = MoreThanCaptured;

    fn decide(book: &Book, command: BookCommand) -> Result<Vec<Booked>, MoreThanCaptured> {
        match command {
            BookCommand::Capture { .. } if book.captured.is_some() || book.declined.is_some() => Ok(vec![]),
            BookCommand::Capture { token, amount_minor, currency, is_authenticated, at } => {
                Ok(vec![match token.as_str() {
                    "tok_requires_action" if !is_authenticated => Booked::ActionRequired {},
                    "tok_approved" | "tok_requires_action" => Booked::Captured { amount_minor, currency, at },
                    token => Booked::Declined { code: token.trim_start_matches("tok_").to_owned() },
                }])
            }
            // From then on it is declined.
            BookCommand::CallOff {} if book.captured.is_none() && book.declined.is_none() => {
                Ok(vec![Booked::CalledOff {}])
            }
            BookCommand::CallOff {} => Ok(vec![]),
            BookCommand::GiveBack { key, .. } if book.given_back.iter().any(|(known, _)| *known == key) => Ok(vec![]),
            BookCommand::GiveBack { key, amount_minor } => {
                if amount_minor > book.captured_minor() - book.given_back_minor() {
                    return Err(MoreThanCaptured);
                }
                Ok(vec![Booked::GivenBack { key, amount_minor }])
            }
        }
    }

    fn evolve(book: &mut Book, event: &Booked) {
        match event {
            Booked::Captured { amount_minor, at, .. } => book.captured = Some((*amount_minor, *at)),
            Booked::Declined { code } => book.declined = Some(code.clone()),
            Booked::ActionRequired {} => {}
            Booked::CalledOff {} => book.declined = Some(CALLED_OFF.to_owned()),
            Booked::GivenBack { key, amount_minor } => book.given_back.push((key.clone(), *amount_minor)),
        }
    }

    fn views(id: &EntityId, book: &Book, _: &Booked, _: i64) -> Vec<ViewWrite> {
        let params = vec![(&**id).into(), book.captured_minor().into(), book.given_back_minor().into()];
        vec![ViewWrite::new(UPSERT, params)]
    }

    fn counts(book: &Book) -> Option<Counts> {
        Some(Counts::new(1, [book.captured_minor(), book.given_back_minor()]))
    }
}

/// The sandbox; see the module's text.
pub struct SandboxProvider {
    books: Entities<BookedCharge>,
    journal: Arc<dyn Journal>,
    fingerprint_key: [u8; 32],
}

impl SandboxProvider {
    /// Commands in flight.
    const IN_FLIGHT_MAX: usize = 20_000;

    /// A sandbox that keeps its books in `journal`, opened with [`VIEWS`]. Cards are recognised by an HMAC-SHA-256 of their
    /// number under `fingerprint_key`.
    #[must_use]
    pub fn new(journal: Arc<dyn Journal>, fingerprint_key: [u8; 32], roster: &Roster) -> Self {
        let config = EntitiesConfig { shards: 2, ..operation::config() };
        let gate = Gate::new(Self::IN_FLIGHT_MAX);
        let books = Entities::new(Arc::clone(&journal), &gate, config, roster.scoped("sandbox-provider"));
        Self { books, journal, fingerprint_key }
    }

    /// What a supervisor starts.
    #[must_use]
    pub fn children(&self) -> Vec<ChildSpec> {
        self.books.shards()
    }
}

impl Provider for SandboxProvider {
    fn name(&self) -> &'static str {
        NAME
    }

    fn takes_expired(&self, card: &Card) -> bool {
        card.number() == EVERGREEN_CARD
    }

    fn tokenize(&self, card: &Card) -> Method {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.fingerprint_key).expect("HMAC takes a key of any length");
        mac.update(card.number().as_bytes());
        let digest = mac.finalize().into_bytes();
        Method {
            token: token_of(card.number()).to_owned(),
            brand: card.brand().to_owned(),
            last4: card.last4().to_owned(),
            expiry_month: card.expiry_month,
            expiry_year: card.expiry_year,
            fingerprint: digest[..16].iter().map(|byte| format!("{byte:02x}")).collect(),
        }
    }

    fn charge(&self, charge: Charge) -> BoxFuture<'static, Result<ChargeOutcome, ProviderDown>> {
        let books = self.books.clone();
        async move {
            let at = Timestamp::now();
            let Charge { idempotency_key, token, amount_minor, currency, is_authenticated } = charge;
            let step = if is_authenticated { "authenticated" } else { "first" };
            let meta = CommandMeta::new(CommandId::of(&["capture", &idempotency_key, step]), PATIENCE);
            let deadline = meta.deadline;
            let capture = BookCommand::Capture { token, amount_minor, currency, is_authenticated, at };
            books.ask(idempotency_key.as_str(), capture, meta).await.map_err(down)?;
            let key = idempotency_key.clone();
            let outcome = books.read(idempotency_key.as_str(), deadline, move |book, _| outcome_of(book, &key)).await;
            outcome.map_err(down)
        }
        .boxed()
    }

    fn void(&self, idempotency_key: String) -> BoxFuture<'static, Result<VoidOutcome, ProviderDown>> {
        let books = self.books.clone();
        async move {
            let meta = CommandMeta::new(CommandId::of(&["call-off", &idempotency_key]), PATIENCE);
            let deadline = meta.deadline;
            books.ask(idempotency_key.as_str(), BookCommand::CallOff {}, meta).await.map_err(down)?;
            let key = idempotency_key.clone();
            let outcome = books.read(idempotency_key.as_str(), deadline, move |book, _| outcome_of(book, &key)).await;
            Ok(match outcome.map_err(down)? {
                ChargeOutcome::Captured { provider, provider_ref, captured_at } => {
                    VoidOutcome::Captured { provider, provider_ref, captured_at }
                }
                ChargeOutcome::RequiresAction { .. } | ChargeOutcome::Declined { .. } => VoidOutcome::Voided,
            })
        }
        .boxed()
    }

    fn refund(&self, refund: Refunding) -> BoxFuture<'static, Result<(), ProviderDown>> {
        let books = self.books.clone();
        async move {
            let Refunding { charge_key, idempotency_key, amount_minor } = refund;
            let meta = CommandMeta::new(CommandId::of(&["give-back", &idempotency_key]), PATIENCE);
            let give_back = BookCommand::GiveBack { key: idempotency_key, amount_minor };
            books.ask(charge_key, give_back, meta).await.map(|_| ()).map_err(down)
        }
        .boxed()
    }

    fn totals(&self) -> BoxFuture<'static, Result<(i64, i64), ProviderDown>> {
        let rows = self.journal.query(SUMS, vec![]);
        async move {
            let rows = rows.await.map_err(|error| ProviderDown(error.to_string()))?;
            let sum = |column| {
                rows.first().map_or(Ok(0), |row| row.integer(column)).map_err(|error| ProviderDown(error.to_string()))
            };
            Ok((sum(0)?, sum(1)?))
        }
        .boxed()
    }
}

fn outcome_of(book: &Book, key: &str) -> ChargeOutcome {
    match (&book.captured, &book.declined) {
        (Some((_, captured_at)), _) => ChargeOutcome::Captured {
            provider: NAME.to_owned(),
            provider_ref: format!("ch_{key}"),
            captured_at: *captured_at,
        },
        (None, Some(code)) => {
            ChargeOutcome::Declined { code: code.clone(), is_retryable: matches!(code.as_str(), "processing_error") }
        }
        (None, None) => {
            let redirect_url = format!("https://sandbox.invalid/authenticate/{key}");
            ChargeOutcome::RequiresAction { provider: NAME.to_owned(), redirect_url }
        }
    }
}

fn down(error: AskError<MoreThanCaptured>) -> ProviderDown {
    ProviderDown(error.to_string())
}

#[cfg(test)]
mod golden_corpus {
    use std::path::Path;

    use runtime::{event_samples, testkit::golden};

    use super::*;

    #[test]
    fn every_event_of_the_books_can_be_read() {
        let samples = event_samples!(Booked {
            Booked::Captured { .. } => Booked::Captured {
                amount_minor: 9_999,
                currency: "USD".parse().unwrap(),
                at: Timestamp::from_seconds(1_700_000_000),
            },
            Booked::Declined { .. } => Booked::Declined { code: "card_declined".into() },
            Booked::ActionRequired {} => Booked::ActionRequired {},
            Booked::CalledOff {} => Booked::CalledOff {},
            Booked::GivenBack { .. } => Booked::GivenBack { key: "rfnd_1".into(), amount_minor: 500 },
        });
        golden::check::<BookedCharge>(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/charge"), samples);
    }
}
