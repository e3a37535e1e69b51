//! What a user's commands come to, what their events make of them, and which rows they have.

use std::collections::BTreeMap;

use super::*;
use crate::{
    email::Email,
    profile::{AddressPatch, Profile},
};

fn registered() -> UserEvent {
    UserEvent::Registered {
        email: Email::parse("a@b.de").unwrap(),
        password_hash: "h1".into(),
        first_name: "Ann".into(),
        last_name: "B".into(),
        phone: Some("1".into()),
        roles: vec![Role::Customer],
        at: Timestamp::from_seconds(1),
    }
}

fn register() -> UserCommand {
    let UserEvent::Registered { email, password_hash, first_name, last_name, phone, roles, at } = registered() else {
        panic!("it is Registered")
    };
    assert_eq!(roles, [Role::Customer]);
    UserCommand::Register { email, password_hash, first_name, last_name, phone, administrator: None, at }
}

fn rename(first_name: &str, expected_version: Option<u64>) -> UserCommand {
    UserCommand::ChangeProfile {
        patch: ProfilePatch { first_name: Change::Set(first_name.into()), ..ProfilePatch::default() },
        expected_version,
        at: Timestamp::from_seconds(2),
    }
}

fn renamed(first_name: &str) -> UserEvent {
    UserEvent::ProfileChanged {
        first_name: first_name.into(),
        last_name: "B".into(),
        phone: Some("1".into()),
        address: None,
        at: Timestamp::from_seconds(2),
    }
}

fn access(roles: Option<&[Role]>, disabled: Option<bool>, expected_version: u64) -> UserCommand {
    let (by, reason, at) = (Authority::Operator, "why".to_owned(), Timestamp::from_seconds(3));
    UserCommand::ChangeAccess { roles: roles.map(<[Role]>::to_vec), disabled, by, reason, expected_version, at }
}

fn roles_changed(roles: &[Role]) -> UserEvent {
    let (granted_by, reason, at) = (Authority::Operator, "why".to_owned(), Timestamp::from_seconds(3));
    UserEvent::RolesChanged { roles: roles.to_vec(), granted_by, reason, at }
}

fn password(replaces: Option<&str>) -> UserCommand {
    let (by, at) = (Authority::Owner, Timestamp::from_seconds(4));
    UserCommand::ChangePassword { replaces: replaces.map(str::to_owned), password_hash: "h3".into(), by, at }
}

fn rehash(replaces: &str) -> UserCommand {
    UserCommand::ChangePasswordHash { replaces: replaces.into(), password_hash: "h2".into() }
}

fn after(events: &[UserEvent]) -> UserState {
    let mut state = UserState::default();
    events.iter().for_each(|event| User::evolve(&mut state, event));
    state
}

#[test]
fn given_when_then() {
    use Role::{Admin, Customer, Support};
    let at = Timestamp::from_seconds(3);
    let granted = UserEvent::RolesGranted { roles: vec![Admin], at };
    let (by, reason) = (Authority::Operator, "why".to_owned());
    let disabled = UserEvent::Disabled { by: by.clone(), reason: reason.clone(), at };
    let enabled = UserEvent::Enabled { by, reason, at };
    let other_password =
        |by| UserEvent::PasswordChanged { password_hash: "h3".into(), by, at: Timestamp::from_seconds(4) };
    let rehashed = UserEvent::PasswordRehashed { password_hash: "h2".into() };
    let table = [
        (vec![], register(), Ok(vec![registered()])),
        (vec![], rename("C", None), Err(UserRefusal::NotRegistered)),
        (vec![], access(Some(&[Admin]), None, 1), Err(UserRefusal::NotRegistered)),
        (vec![], password(None), Err(UserRefusal::NotRegistered)),
        (vec![registered()], register(), Err(UserRefusal::AlreadyRegistered)),
        (vec![registered()], rename("C", None), Ok(vec![renamed("C")])),
        (vec![registered()], rename("C", Some(1)), Ok(vec![renamed("C")])),
        (vec![registered()], rename("C", Some(2)), Err(UserRefusal::OtherVersion { current: 1 })),
        (vec![registered(), renamed("C")], rename("D", Some(1)), Err(UserRefusal::OtherVersion { current: 2 })),
        (vec![registered()], rename("Ann", None), Ok(vec![])),
        (vec![registered()], access(Some(&[Admin]), None, 1), Ok(vec![roles_changed(&[Customer, Admin])])),
        (vec![registered()], access(Some(&[Admin]), None, 2), Err(UserRefusal::OtherVersion { current: 1 })),
        (vec![registered(), granted.clone()], access(Some(&[Admin]), None, 2), Ok(vec![])),
        (vec![registered(), granted.clone()], access(Some(&[]), None, 2), Ok(vec![roles_changed(&[Customer])])),
        (
            vec![registered(), granted],
            access(Some(&[Support]), Some(true), 2),
            Ok(vec![roles_changed(&[Customer, Support]), disabled.clone()]),
        ),
        (vec![registered()], access(None, Some(true), 1), Ok(vec![disabled.clone()])),
        (vec![registered(), disabled.clone()], access(None, Some(true), 2), Ok(vec![])),
        (vec![registered(), disabled], access(None, Some(false), 2), Ok(vec![enabled])),
        (vec![registered()], access(None, Some(false), 1), Ok(vec![])),
        (vec![registered()], password(Some("h1")), Ok(vec![other_password(Authority::Owner)])),
        (vec![registered()], password(Some("h2")), Err(UserRefusal::OtherPassword)),
        (vec![registered()], password(None), Ok(vec![other_password(Authority::Owner)])),
        (vec![registered()], rehash("h1"), Ok(vec![rehashed.clone()])),
        (vec![registered(), rehashed], rehash("h1"), Ok(vec![])),
    ];
    for (given, when, then) in table {
        let what = format!("{given:?} {when:?}");
        assert_eq!(User::decide(&after(&given), when), then, "{what}");
    }
}

#[test]
fn a_rehash_changes_no_version_and_everything_else_does() {
    let rehashed = UserEvent::PasswordRehashed { password_hash: "h2".into() };
    let account = after(&[registered(), renamed("C"), rehashed]).account.unwrap();
    assert_eq!((account.version, account.updated_at), (2, Timestamp::from_seconds(2)));
    assert_eq!((account.password_hash.as_str(), account.first_name.as_str()), ("h2", "C"));
}

#[test]
fn who_registers_is_a_customer_and_each_role_beyond_says_how_it_came_about() {
    let account = after(&[registered()]).account.unwrap();
    assert!(!account.is_administrator() && account.grants.is_empty());

    let grant =
        Grant { by: Some(Authority::FirstStart), reason: "no administrator".into(), at: Timestamp::from_seconds(1) };
    let UserCommand::Register { email, password_hash, first_name, last_name, phone, at, .. } = register() else {
        panic!("it is Register")
    };
    let administrator = Some(grant.clone());
    let command = UserCommand::Register { email, password_hash, first_name, last_name, phone, administrator, at };
    let events = User::decide(&UserState::default(), command).unwrap();
    let account = after(&events).account.unwrap();
    assert!(account.is_administrator());
    assert_eq!(account.grants, BTreeMap::from([(Role::Admin, grant.clone())]));

    // A later role does not change how the first came about, and what is taken away is forgotten.
    let more = after(&[events.clone(), vec![roles_changed(&[Role::Customer, Role::Support, Role::Admin])]].concat());
    let more = more.account.unwrap();
    assert_eq!(more.grants[&Role::Admin], grant);
    assert_eq!(more.grants[&Role::Support].by, Some(Authority::Operator));
    let less = after(&[events, vec![roles_changed(&[Role::Customer])]].concat()).account.unwrap();
    assert!(less.grants.is_empty() && !less.is_administrator());

    // Earlier builds did not say.
    let old = UserEvent::RolesGranted { roles: vec![Role::Admin], at: Timestamp::from_seconds(3) };
    assert_eq!(after(&[registered(), old]).account.unwrap().grants[&Role::Admin].by, None);
}

#[test]
fn another_password_is_another_credential_and_a_rehash_is_not() {
    let credential = |events: &[UserEvent]| after(events).account.unwrap().credential;
    let (by, at) = (Authority::Owner, Timestamp::from_seconds(4));
    let changed = UserEvent::PasswordChanged { password_hash: "h3".into(), by, at };
    assert_eq!(credential(&[registered(), UserEvent::PasswordRehashed { password_hash: "h2".into() }]), 0);
    assert_eq!(credential(&[registered(), changed]), 1);
}

#[test]
fn an_address_is_merged_and_removed() {
    let patch = |address| UserCommand::ChangeProfile {
        patch: ProfilePatch { address, ..ProfilePatch::default() },
        expected_version: None,
        at: Timestamp::from_seconds(4),
    };
    let mut state = after(&[registered()]);
    let city = |city: &str| AddressPatch { city: Change::Set(city.into()), ..AddressPatch::default() };
    for (change, expected) in [(Change::Set(city("X")), Some("X")), (Change::Keep, Some("X")), (Change::Remove, None)] {
        for event in User::decide(&state, patch(change)).unwrap() {
            User::evolve(&mut state, &event);
        }
        let address = state.account.as_ref().unwrap().address.as_ref();
        assert_eq!(address.map(|address| address.city.as_str()), expected);
    }
}

#[test]
fn the_document_of_the_read_model_holds_no_hash() {
    let state = after(&[registered()]);
    let views = User::views(&"usr_1".into(), &state, &registered(), 0);
    let runtime::SqlValue::Text(doc) = &views[0].params[3] else { panic!("the document is text") };
    assert!(!doc.contains("h1"));
    assert_eq!(serde_json::from_str::<Profile>(doc).unwrap().version, 1);
}
