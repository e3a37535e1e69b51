//! An e-mail address belongs to one user, whatever races and whatever crashes.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod support;

use contracts::{Message, UserId};
use futures::future::join_all;
use runtime::Journal;
use runtime::{CommandId, Recorded, SqlValue};
use support::{EMAIL, PASSWORD, System, ann, registration, request};
use user_service::{
    Change, Email, Password, ProfilePatch, Role, UserError, UserService, email_claim::EmailClaimCommand,
};

#[tokio::test]
async fn a_registered_user_can_sign_in_and_is_still_there_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let system = System::start(directory.path()).await;
    let registered = system.users.register(ann(), None, &request()).await.unwrap();
    let user_id = registered.profile.user_id.clone();
    let patch = ProfilePatch { first_name: Change::Set("Anna".into()), ..ProfilePatch::default() };
    let changed = system.users.change_profile(&user_id, patch.clone(), Some(1), &request()).await.unwrap();
    assert_eq!((changed.first_name.as_str(), changed.version), ("Anna", 2));
    system.stop().await;

    let system = System::start(directory.path()).await;
    let signed_in = system.users.login(" ANN@example.com", Password::new(PASSWORD), &request()).await.unwrap();
    assert_eq!(signed_in.profile, changed);
    assert_eq!(system.users.profile(&user_id).await.unwrap(), changed);
    assert_eq!(changed.roles, [Role::Customer]);
    let outdated = system.users.change_profile(&user_id, patch, Some(1), &request()).await;
    assert_eq!(outdated, Err(UserError::Precondition { current_version: 2 }));
    let nobody = UserId::generate();
    assert_eq!(system.users.profile(&nobody).await, Err(UserError::NotFound));
    let of_nobody = system.users.change_profile(&nobody, ProfilePatch::default(), None, &request()).await;
    assert_eq!(of_nobody, Err(UserError::NotFound));
    system.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_fifty_registrations_at_once_exactly_one_wins() {
    let directory = tempfile::tempdir().unwrap();
    let system = System::start(directory.path()).await;
    let attempts: Vec<_> = (0..50).map(|number| (request(), format!("password number {number}"))).collect();
    let answers = join_all(
        attempts.iter().map(|(context, password)| system.users.register(registration(EMAIL, password), None, context)),
    )
    .await;

    let winners: Vec<_> = answers.iter().zip(&attempts).filter(|(answer, _)| answer.is_ok()).collect();
    assert_eq!(winners.len(), 1);
    let losers = answers.iter().filter(|answer| matches!(answer, Err(UserError::EmailTaken))).count();
    assert_eq!(losers, 49);
    let (winner, (_, password)) = winners[0];
    let signed_in = system.users.login(EMAIL, Password::new(password), &request()).await.unwrap();
    assert_eq!(signed_in.profile.user_id, winner.as_ref().unwrap().profile.user_id);
    let rows = system.journal.query("SELECT count(*) FROM users", vec![]).await.unwrap();
    assert_eq!(rows[0].0, [SqlValue::Integer(1)]);
    system.stop().await;
}

#[tokio::test]
async fn a_claim_left_by_a_crash_is_taken_over_under_its_own_user_id() {
    let directory = tempfile::tempdir().unwrap();
    let system = System::start(directory.path()).await;
    let claimed = UserId::generate();
    let claim = EmailClaimCommand::Claim { user_id: claimed.clone() };
    let meta = request().command(CommandId::of(&["an attempt that dies"]));
    system.users.claims().ask(Email::parse(EMAIL).unwrap().digest(), claim, meta).await.unwrap();
    system.stop().await;

    let system = System::start(directory.path()).await;
    let registered = system.users.register(ann(), None, &request()).await.unwrap();
    assert_eq!(registered.profile.user_id, claimed);
    assert_eq!(system.users.register(ann(), None, &request()).await.unwrap_err(), UserError::EmailTaken);
    system.stop().await;
}

#[tokio::test]
async fn a_registration_repeated_under_its_key_is_the_same_user_and_only_with_the_same_password() {
    let directory = tempfile::tempdir().unwrap();
    let system = System::start(directory.path()).await;
    let first = system.users.register(ann(), Some("k"), &request()).await.unwrap();
    system.stop().await;

    let system = System::start(directory.path()).await;
    let again = system.users.register(ann(), Some("k"), &request()).await.unwrap();
    assert_eq!(again.profile, first.profile);
    assert_ne!(again.tokens.session_id, first.tokens.session_id);
    let thief = system.users.register(registration(EMAIL, "another password"), Some("k"), &request()).await;
    assert_eq!(thief.unwrap_err(), UserError::EmailTaken);
    let other_key = system.users.register(ann(), Some("other"), &request()).await;
    assert_eq!(other_key.unwrap_err(), UserError::EmailTaken);
    let registrations = system.recorded().await.iter().filter(|event| event.event_type == "user.registered").count();
    assert_eq!(registrations, 1);
    system.stop().await;
}

#[tokio::test]
async fn a_customer_who_is_to_exist_is_made_once_and_stays_as_they_are() {
    let directory = tempfile::tempdir().unwrap();
    let system = System::start(directory.path()).await;
    assert!(system.users.ensure_customer(ann(), &request()).await.unwrap());
    let before = system.recorded().await.len();
    let again = system.users.ensure_customer(registration(EMAIL, "another password"), &request()).await.unwrap();
    assert!(!again);
    assert_eq!(system.recorded().await.len(), before, "nothing was to do");
    let signed_in = system.users.login(EMAIL, Password::new(PASSWORD), &request()).await.unwrap();
    assert_eq!(signed_in.profile.roles, [Role::Customer]);
    system.stop().await;
}

#[tokio::test]
async fn what_is_told_of_a_user_is_the_same_each_time_and_holds_neither_address_nor_secret() {
    let directory = tempfile::tempdir().unwrap();
    let system = System::start(directory.path()).await;
    let registered = system.users.register(ann(), None, &request()).await.unwrap();
    let recorded = system.recorded().await;
    assert!(recorded.iter().all(|event| !event.stream.contains("ann")), "no address names a stream");

    let told: Vec<_> = recorded.iter().flat_map(|event| UserService::outbox(event).unwrap()).collect();
    let (user_id, session_id) = (registered.profile.user_id, registered.tokens.session_id);
    let expected = [
        Message::UserRegistered { user_id: user_id.clone() },
        Message::UserLoggedIn { user_id: user_id.clone(), session_id },
    ];
    assert_eq!(told.iter().map(|envelope| envelope.message.clone()).collect::<Vec<_>>(), expected);
    assert_eq!(told.iter().map(|envelope| envelope.seq).collect::<Vec<_>>(), [Some(1), Some(2)]);
    for envelope in &told {
        assert_eq!((envelope.subject.as_str(), envelope.actor.as_deref()), (user_id.as_str(), Some(user_id.as_str())));
        assert_eq!(envelope.correlation_id.as_deref(), Some("req_test"));
        let json = serde_json::to_string(envelope).unwrap();
        for secret in ["@", "Ann", "argon2", "ref_"] {
            assert!(!json.contains(secret), "{json}");
        }
    }
    let again: Vec<_> = recorded.iter().flat_map(|event| UserService::outbox(event).unwrap()).collect();
    assert_eq!(told, again);
    system.stop().await;
}

/// The user's sessions are streams of their own; what is said of the user has one count all the same.
#[tokio::test]
async fn what_is_said_of_a_user_is_numbered_over_all_of_their_sessions() {
    let directory = tempfile::tempdir().unwrap();
    let system = System::start(directory.path()).await;
    let registered = system.users.register(ann(), None, &request()).await.unwrap();
    for _ in 0..3 {
        let signed_in = system.users.login(EMAIL, Password::new(PASSWORD), &request()).await.unwrap();
        assert_eq!(signed_in.profile.user_id, registered.profile.user_id);
    }
    let recorded = system.recorded().await;
    let told: Vec<_> = recorded.iter().flat_map(|event| UserService::outbox(event).unwrap()).collect();
    assert_eq!(told.iter().map(|envelope| envelope.seq).collect::<Vec<_>>(), (1..=5).map(Some).collect::<Vec<_>>());
    // Who is told of a session before there is one is told of each: none is without its word.
    for session in recorded.iter().filter(|event| event.event_type == "session.started") {
        let (_, session_id) = session.kind_and_id();
        let word = told.iter().find(|envelope| matches!(&envelope.message, Message::UserLoggedIn { session_id: told, .. } if told.as_str() == session_id));
        assert!(word.is_some(), "{session_id}");
    }

    // As an older build wrote it, a session speaks of its own start, and nobody knows under which number.
    let start = recorded.iter().find(|event| event.event_type == "session.started").unwrap();
    let of_older_build = Recorded { published_before: None, ..start.clone() };
    let told = UserService::outbox(&of_older_build).unwrap();
    assert!(matches!(told[0].message, Message::UserLoggedIn { .. }) && told[0].seq.is_none(), "{told:?}");
    system.stop().await;
}
