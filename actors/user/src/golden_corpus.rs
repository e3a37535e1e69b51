//! Every event that users' journals may hold can still be read; see [`runtime::testkit::golden`].

use std::path::{Path, PathBuf};

use contracts::{SessionId, Timestamp, UserId, testkit::assert_numbered};
use runtime::{event_samples, testkit::golden};

use crate::{
    administrators::{Administrators, AdministratorsEvent},
    email::Email,
    email_claim::{EmailClaim, EmailClaimEvent},
    profile::Address,
    refresh_token::TokenHash,
    role::{Authority, Role},
    session::{RevokeReason, Session, SessionEvent},
    user::{User, UserEvent},
};

fn corpus(kind: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(kind)
}

fn at() -> Timestamp {
    Timestamp::from_seconds(1_700_000_000)
}

fn user_id() -> UserId {
    UserId::parse("usr_1").unwrap()
}

fn hash() -> String {
    "$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHQ$aGFzaGhhc2g".to_owned()
}

fn registered(phone: Option<&str>, roles: Vec<Role>) -> UserEvent {
    UserEvent::Registered {
        email: Email::parse("Ann@Example.com").unwrap(),
        password_hash: hash(),
        first_name: "Ann".into(),
        last_name: "Example".into(),
        phone: phone.map(Into::into),
        roles,
        at: at(),
    }
}

fn profile_changed(phone: Option<&str>, address: Option<Address>) -> UserEvent {
    UserEvent::ProfileChanged {
        first_name: "Ann".into(),
        last_name: "Other".into(),
        phone: phone.map(Into::into),
        address,
        at: at(),
    }
}

fn roles_changed(granted_by: Authority) -> UserEvent {
    let roles = vec![Role::Customer, Role::Admin];
    UserEvent::RolesChanged { roles, granted_by, reason: "the shop had no administrator".into(), at: at() }
}

#[test]
fn every_event_of_the_administrators_can_be_read() {
    let samples = event_samples!(AdministratorsEvent {
        AdministratorsEvent::ChangeBegun { .. } => AdministratorsEvent::ChangeBegun {
            user_id: user_id(),
            change: "01J0000000000000000000000".into(),
            is_leaving: true,
            until: at(),
        },
        AdministratorsEvent::Settled { .. } => AdministratorsEvent::Settled {
            user_id: user_id(),
            is_member: true,
            at: at(),
        },
    });
    golden::check::<Administrators>(&corpus("administrators"), samples);
}

#[test]
fn every_event_of_a_user_can_be_read() {
    let address = Address {
        street: "1 Main St".into(),
        city: "Springfield".into(),
        state: "IL".into(),
        zip: "62701".into(),
        country: "US".into(),
    };
    let mut samples = event_samples!(UserEvent {
        UserEvent::Registered { .. } => registered(Some("+1 555 0100"), vec![Role::Customer]),
        UserEvent::ProfileChanged { .. } => profile_changed(Some("+1 555 0101"), Some(address)),
        UserEvent::RolesGranted { .. } => UserEvent::RolesGranted { roles: vec![Role::Support, Role::CatalogManager], at: at() },
        UserEvent::PasswordRehashed { .. } => UserEvent::PasswordRehashed { password_hash: hash() },
        UserEvent::SignedIn { .. } => UserEvent::SignedIn { session_id: SessionId::parse("ses_1").unwrap(), at: at() },
        UserEvent::RolesChanged { .. } => roles_changed(Authority::FirstStart),
        UserEvent::Disabled { .. } => UserEvent::Disabled { by: Authority::Operator, reason: "left".into(), at: at() },
        UserEvent::Enabled { .. } => UserEvent::Enabled { by: Authority::Operator, reason: "back".into(), at: at() },
        UserEvent::PasswordChanged { .. } => {
            UserEvent::PasswordChanged { password_hash: hash(), by: Authority::Owner, at: at() }
        },
        UserEvent::SignInRefused { .. } => UserEvent::SignInRefused { ip_hash: Some("0123456789abcdef".into()), at: at() },
    });
    samples.extend([registered(None, vec![Role::Customer, Role::Admin]), profile_changed(None, None)]);
    samples.push(roles_changed(Authority::Administrator(user_id())));
    let told = golden::history::<User>("usr_1", &samples);
    let told = told.iter().map(|recorded| crate::outbox::outbox(recorded).unwrap());
    assert_numbered(told.zip(samples.iter().map(UserEvent::publishes)));
    golden::check::<User>(&corpus("user"), samples);
}

#[test]
fn every_event_of_an_email_claim_can_be_read() {
    let samples = event_samples!(EmailClaimEvent {
        EmailClaimEvent::Claimed { .. } => EmailClaimEvent::Claimed { user_id: user_id() },
    });
    golden::check::<EmailClaim>(&corpus("email"), samples);
}

#[test]
fn every_event_of_a_session_can_be_read() {
    let (first, second) = (TokenHash::of("first"), TokenHash::of("second"));
    let mut samples = event_samples!(SessionEvent {
        SessionEvent::Started { .. } => SessionEvent::Started {
            user_id: user_id(),
            refresh_hash: first,
            expires_at: Timestamp::from_seconds(1_700_086_400),
            at: at(),
        },
        SessionEvent::Rotated { .. } => SessionEvent::Rotated { refresh_hash: second, at: at() },
        SessionEvent::Revoked { .. } => SessionEvent::Revoked { reason: RevokeReason::SignedOut, at: at() },
    });
    for reason in [RevokeReason::RefreshReused, RevokeReason::PasswordChanged, RevokeReason::AccessChanged] {
        samples.push(SessionEvent::Revoked { reason, at: at() });
    }
    golden::check::<Session>(&corpus("session"), samples);
}
