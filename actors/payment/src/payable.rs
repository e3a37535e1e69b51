//! What a buyer pays with, judged before anything is written down: as far as the card alone can tell.

use contracts::Timestamp;

use crate::{
    card::{Card, CardError, CardFault},
    provider::Provider,
    service::PaymentService,
};

const EXPIRED: CardError = CardError(CardFault { field: "expiry_year", reason: "the card has expired" });

impl PaymentService {
    /// Whether a payment may be made with this card at `now`. Whether it has the money is the provider's to say.
    ///
    /// # Errors
    /// [`CardError`]: the card is past the end of its month, and the provider does not take it all the same.
    pub fn check_card(&self, card: &Card, now: Timestamp) -> Result<(), CardError> {
        check(self.provider(), card, now)
    }
}

fn check(provider: &dyn Provider, card: &Card, now: Timestamp) -> Result<(), CardError> {
    if card.is_expired(now) && !provider.takes_expired(card) { Err(EXPIRED) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use runtime::{
        Roster,
        journal::memory::{Faults, MemoryDisk, MemoryJournal},
    };

    use super::*;
    use crate::provider::sandbox::{EVERGREEN_CARD, SandboxProvider, VIEWS};

    #[tokio::test]
    async fn only_the_evergreen_card_outlives_its_expiry() {
        let books = MemoryJournal::open(&MemoryDisk::new(VIEWS).unwrap(), Faults::none()).await.unwrap();
        let provider = SandboxProvider::new(books, [7; 32], &Roster::new());
        let now = Timestamp::parse("2026-06-15T00:00:00Z").unwrap();
        let judged = |number: &str, month, year| check(&provider, &Card::new(number, month, year, "123").unwrap(), now);
        assert_eq!(judged(EVERGREEN_CARD, 12, 2025), Ok(()));
        assert_eq!(judged("4242424242424242", 5, 2026), Err(EXPIRED));
        assert_eq!(judged("4242424242424242", 6, 2026), Ok(()), "a card is good until the end of its month");
    }
}
