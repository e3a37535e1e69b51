//! One e-mail address belongs to one user: the writer that decides whose it is.
//!
//! The entity's id is the address's SHA-256 ([`crate::Email::digest`]). A registration first claims the address for a user
//! id that nobody has yet, then registers that id. A crash in between leaves a claim for a user who does not exist: the
//! next registration of the address takes the claimed id over, and [`crate::user`] decides who wins.

use contracts::UserId;
use runtime::{Entity, entity::EventPayload};
use serde::{Deserialize, Serialize};

/// The entity.
pub struct EmailClaim;

/// Commands of a claim.
#[derive(Clone, Debug)]
pub enum EmailClaimCommand {
    /// Make the address this user's.
    Claim {
        /// Whose it is to be.
        user_id: UserId,
    },
}

/// What happened to a claim.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum EmailClaimEvent {
    /// The address is this user's, for good.
    Claimed {
        /// Whose.
        user_id: UserId,
    },
}

impl EventPayload for EmailClaimEvent {
    fn event_type(&self) -> &'static str {
        match self {
            Self::Claimed { .. } => "email.claimed",
        }
    }
}

/// Whose the address is.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct EmailClaimState {
    /// `None` before the first claim.
    pub user_id: Option<UserId>,
}

/// The address is another user's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EmailTaken {
    /// Whose.
    pub user_id: UserId,
}

impl Entity for EmailClaim {
    const KIND: &'static str = "email";
    type State = EmailClaimState;
    type Command = EmailClaimCommand;
    type Event = EmailClaimEvent;
    type Refusal = EmailTaken;

    fn decide(state: &EmailClaimState, command: EmailClaimCommand) -> Result<Vec<EmailClaimEvent>, EmailTaken> {
        let EmailClaimCommand::Claim { user_id } = command;
        match &state.user_id {
            None => Ok(vec![EmailClaimEvent::Claimed { user_id }]),
            Some(owner) if *owner == user_id => Ok(vec![]),
            Some(owner) => Err(EmailTaken { user_id: owner.clone() }),
        }
    }

    fn evolve(state: &mut EmailClaimState, event: &EmailClaimEvent) {
        let EmailClaimEvent::Claimed { user_id } = event;
        state.user_id = Some(user_id.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(number: u8) -> UserId {
        UserId::parse(&format!("usr_{number}")).unwrap()
    }

    #[test]
    fn an_address_is_the_first_claimants_for_good() {
        let claim = |number| EmailClaimCommand::Claim { user_id: user(number) };
        let claimed = |number| EmailClaimEvent::Claimed { user_id: user(number) };
        let table = [
            (vec![], claim(1), Ok(vec![claimed(1)])),
            (vec![claimed(1)], claim(1), Ok(vec![])),
            (vec![claimed(1)], claim(2), Err(EmailTaken { user_id: user(1) })),
        ];
        for (given, when, then) in table {
            let mut state = EmailClaimState::default();
            given.iter().for_each(|event| EmailClaim::evolve(&mut state, event));
            assert_eq!(EmailClaim::decide(&state, when), then);
        }
    }
}
