//! Deliveries as messages to ractor actors.
//!
//! A killed actor drops what is in its mailbox, and with it the tokens: those records are given again, which spends an attempt
//! each. While an actor is known to be gone, nothing is sent and nothing spent.

use ractor::{ActorRef, ActorStatus, Message};
use runtime::Current;

use super::Handler;
use crate::engine::delivery::{Delivery, Outcome};

/// One actor, or several that share the keys between them. The message is made from all deliveries of one turn at once.
pub struct Mailboxes<M: Message> {
    places: Vec<Current<ActorRef<M>>>,
}

impl<M: Message + From<Vec<Delivery>>> Mailboxes<M> {
    /// The actor in `place`, which may be restarted.
    #[must_use]
    pub fn one(place: Current<ActorRef<M>>) -> Self {
        Self::shared(vec![place])
    }

    /// These actors: a key goes to one of them, always the same as long as this process runs.
    #[must_use]
    pub fn shared(places: Vec<Current<ActorRef<M>>>) -> Self {
        Self { places }
    }

    fn send(place: &Current<ActorRef<M>>, deliveries: Vec<Delivery>) {
        let actor = place.get().ok().filter(|actor| actor.get_status() < ActorStatus::Stopping);
        match actor {
            // One that ends in this moment drops the message, and so the tokens.
            Some(actor) => drop(actor.send_message(M::from(deliveries))),
            None => Delivery::settle_all(deliveries, |_| Outcome::not_now("the actor is starting or restarting")),
        }
    }
}

impl<M: Message + From<Vec<Delivery>>> Handler for Mailboxes<M> {
    fn handle(&self, deliveries: Vec<Delivery>) {
        if let [place] = &self.places[..] {
            return Self::send(place, deliveries);
        }
        let share = deliveries.len() / self.places.len().max(1) + 1;
        let mut shares: Vec<Vec<Delivery>> = self.places.iter().map(|_| Vec::with_capacity(share)).collect();
        for delivery in deliveries {
            // The remainder is below the number of places.
            let index = (delivery.key_hash() % shares.len() as u64) as usize;
            shares[index].push(delivery);
        }
        for (place, share) in self.places.iter().zip(shares).filter(|(_, share)| !share.is_empty()) {
            Self::send(place, share);
        }
    }
}
