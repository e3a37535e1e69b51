//! Signing in, refreshing, signing out, and what a thief gets.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod support;

use argon2::{Algorithm, Argon2, Params, PasswordHasher, Version};
use contracts::{
    Claims, SessionId, Timestamp, UserId,
    claims::{AUDIENCE, ISSUER},
};
use jsonwebtoken::{DecodingKey, Validation};
use runtime::{CommandId, Journal};
use support::{EMAIL, PASSWORD, System, ann, request, request_in};
use user_service::{Email, Password, UserError, user::UserCommand};

#[tokio::test]
async fn a_wrong_password_and_an_unknown_address_get_the_same_answer() {
    let directory = tempfile::tempdir().unwrap();
    let system = System::start(directory.path()).await;
    system.users.register(ann(), None, &request()).await.unwrap();
    let long = "x".repeat(10_000);
    let table =
        [(EMAIL, "wrong horse"), ("nobody@example.com", PASSWORD), ("no address", PASSWORD), (EMAIL, long.as_str())];
    for (email, password) in table {
        let answer = system.users.login(email, Password::new(password), &request()).await;
        assert_eq!(answer.unwrap_err(), UserError::InvalidCredentials, "{email}");
    }
    let UserError::Invalid(faults) = system.users.login("", Password::default(), &request()).await.unwrap_err() else {
        panic!("both are missing")
    };
    assert_eq!(faults.iter().map(|fault| fault.field).collect::<Vec<_>>(), ["email", "password"]);
    system.stop().await;
}

#[tokio::test]
async fn an_access_token_is_verified_by_the_public_key_and_holds_no_address() {
    let directory = tempfile::tempdir().unwrap();
    let system = System::start(directory.path()).await;
    let signed_in = system.users.register(ann(), None, &request()).await.unwrap();
    let key = DecodingKey::from_ed_components(system.tokens.public_key().x()).unwrap();
    let mut validation = Validation::new(jsonwebtoken::Algorithm::EdDSA);
    validation.set_issuer(&[ISSUER]);
    validation.set_audience(&[AUDIENCE]);
    let token = &signed_in.tokens.access_token;
    let claims = jsonwebtoken::decode::<Claims>(token, &key, &validation).unwrap().claims;
    assert_eq!(claims.sub, signed_in.profile.user_id.as_str());
    assert_eq!(claims.sid, signed_in.tokens.session_id.as_str());
    assert_eq!(claims.roles, ["customer"]);
    assert!(!serde_json::to_string(&claims).unwrap().contains('@'));
    // The journal holds the digest of the refresh token, not the token.
    let refresh_token = signed_in.tokens.refresh_token.as_str();
    assert!(system.recorded().await.iter().all(|event| !event.payload.contains(refresh_token)));
    system.stop().await;
}

#[tokio::test]
async fn a_refresh_token_works_once_and_a_spent_one_ends_the_family() {
    let directory = tempfile::tempdir().unwrap();
    let system = System::start(directory.path()).await;
    let signed_in = system.users.register(ann(), None, &request()).await.unwrap();
    let first = signed_in.tokens.refresh_token.as_str().to_owned();
    let second = system.users.refresh(&first, &request()).await.unwrap();
    assert_ne!(second.refresh_token.as_str(), first);
    assert_eq!(second.session_id, signed_in.tokens.session_id);
    let third = system.users.refresh(second.refresh_token.as_str(), &request()).await.unwrap();
    system.stop().await;

    let system = System::start(directory.path()).await;
    let live = |context| {
        let (users, session_id) = (system.users.clone(), third.session_id.clone());
        async move { users.session_is_live(&session_id, &context).await.unwrap() }
    };
    assert!(live(request()).await);
    let reused = system.users.refresh(&first, &request()).await;
    assert_eq!(reused.unwrap_err(), UserError::RefreshReused { session_id: third.session_id.clone() });
    assert!(!live(request()).await);
    // The rightful owner is out too: nobody knows which of the two they are.
    let after = system.users.refresh(third.refresh_token.as_str(), &request()).await;
    assert_eq!(after.unwrap_err(), UserError::SessionExpired);
    let revoked = system.users.sessions_revoked_since(Timestamp::EPOCH).await.unwrap();
    assert_eq!(revoked, [third.session_id]);
    system.stop().await;
}

#[tokio::test]
async fn a_lost_answer_is_given_again_within_the_grace_and_not_after_it() {
    let directory = tempfile::tempdir().unwrap();
    let system = System::start(directory.path()).await;
    let first = system.users.register(ann(), None, &request()).await.unwrap().tokens.refresh_token;
    let now = request();
    let second = system.users.refresh(first.as_str(), &now).await.unwrap();
    let mut later = now.clone();
    later.at_ms += 10_000;
    let again = system.users.refresh(first.as_str(), &later).await.unwrap();
    assert_eq!(again.refresh_token, second.refresh_token);
    later.at_ms += 1;
    let too_late = system.users.refresh(first.as_str(), &later).await;
    assert_eq!(too_late.unwrap_err(), UserError::RefreshReused { session_id: second.session_id });
    system.stop().await;
}

#[tokio::test]
async fn of_two_refreshes_at_once_both_get_the_same_successor() {
    let directory = tempfile::tempdir().unwrap();
    let system = System::start(directory.path()).await;
    let first = system.users.register(ann(), None, &request()).await.unwrap().tokens.refresh_token;
    let (left, right) = (request(), request());
    let (left, right) =
        tokio::join!(system.users.refresh(first.as_str(), &left), system.users.refresh(first.as_str(), &right));
    assert_eq!(left.unwrap().refresh_token, right.unwrap().refresh_token);
    system.stop().await;
}

#[tokio::test]
async fn a_token_that_is_none_of_ours_writes_nothing_and_harms_nobody() {
    let directory = tempfile::tempdir().unwrap();
    let system = System::start(directory.path()).await;
    let tokens = system.users.register(ann(), None, &request()).await.unwrap().tokens;
    let good = tokens.refresh_token.as_str();
    let forged = format!("{}{}", &good[..good.len() - 43], "A".repeat(43));
    let of_nobody = system.tokens.first_refresh_token(&SessionId::generate()).unwrap();
    let rows_before = rows_of_commands(&system).await;
    for wrong in ["", "ref_", "ref_é", good.trim_start_matches("ref_"), forged.as_str(), of_nobody.as_str()] {
        let answer = system.users.refresh(wrong, &request()).await;
        assert_eq!(answer.unwrap_err(), UserError::SessionExpired, "{wrong}");
    }
    assert_eq!(rows_of_commands(&system).await, rows_before);
    let too_late = system.users.refresh(good, &request_in(31 * 24 * 3_600)).await;
    assert_eq!(too_late.unwrap_err(), UserError::SessionExpired);
    system.users.refresh(good, &request()).await.unwrap();
    system.stop().await;
}

#[tokio::test]
async fn signing_out_ends_one_session_or_all() {
    let directory = tempfile::tempdir().unwrap();
    let system = System::start(directory.path()).await;
    let first = system.users.register(ann(), None, &request()).await.unwrap();
    let mut others = Vec::new();
    for _ in 0..3 {
        others.push(system.users.login(EMAIL, Password::new(PASSWORD), &request()).await.unwrap().tokens);
    }
    for _ in 0..2 {
        system.users.logout(&first.tokens.session_id, &request()).await.unwrap();
    }
    system.users.logout(&SessionId::generate(), &request()).await.unwrap();
    let refused = system.users.refresh(first.tokens.refresh_token.as_str(), &request()).await;
    assert_eq!(refused.unwrap_err(), UserError::SessionExpired);
    assert!(system.users.session_is_live(&others[0].session_id, &request()).await.unwrap());

    let mut ended = system.users.logout_everywhere(&first.profile.user_id, &request()).await.unwrap();
    let mut expected: Vec<_> = others.iter().map(|tokens| tokens.session_id.clone()).collect();
    ended.sort();
    expected.sort();
    assert_eq!(ended, expected);
    assert!(!system.users.session_is_live(&others[0].session_id, &request()).await.unwrap());
    system.stop().await;
}

#[tokio::test]
async fn a_hash_of_yesterdays_parameters_is_renewed_at_the_next_sign_in() {
    let directory = tempfile::tempdir().unwrap();
    let system = System::start(directory.path()).await;
    let weak = Argon2::new(Algorithm::Argon2id, Version::V0x13, Params::new(64, 1, 1, None).unwrap());
    let register = UserCommand::Register {
        email: Email::parse(EMAIL).unwrap(),
        password_hash: weak.hash_password(PASSWORD.as_bytes()).unwrap().to_string(),
        first_name: "Ann".into(),
        last_name: "Example".into(),
        phone: None,
        administrator: None,
        at: Timestamp::now(),
    };
    let meta = request().command(CommandId::of(&["an old registration"]));
    system.users.users().ask(UserId::generate().as_str(), register, meta).await.unwrap();
    for _ in 0..2 {
        system.users.login(EMAIL, Password::new(PASSWORD), &request()).await.unwrap();
    }
    let rehashes = system.recorded().await.iter().filter(|event| event.event_type == "user.password_rehashed").count();
    assert_eq!(rehashes, 1);
    let rows = system.journal.query("SELECT password_hash FROM users", vec![]).await.unwrap();
    assert!(rows[0].text(0).unwrap().contains("m=19456"));
    system.stop().await;
}

async fn rows_of_commands(system: &System) -> i64 {
    let rows = system
        .journal
        .query("SELECT (SELECT count(*) FROM events) + (SELECT count(*) FROM commands)", vec![])
        .await
        .unwrap();
    rows[0].integer(0).unwrap()
}
