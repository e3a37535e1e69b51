//! Roles, disabled users, changed passwords, and that one administrator is left.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod support;

use std::time::{Duration, Instant};

use contracts::{Message, UserId};
use futures::future::join_all;
use runtime::{CommandId, Journal};
use support::{EMAIL, PASSWORD, System, ann, registration, request};
use user_service::{
    AccessChange, Authority, OperatorAnswer, OperatorWish, Password, Role, UserError, UserService, access::AddressOf,
    administrators::AdministratorsCommand,
};

const SOON: Duration = Duration::from_secs(20);

async fn administrator(system: &System, email: &str) -> UserId {
    let (registration, context) = (registration(email, PASSWORD), request());
    let made = system.users.make_administrator(registration, Authority::FirstStart, "the shop had none", &context);
    made.await.unwrap()
}

fn roles(roles: &[Role]) -> AccessChange {
    AccessChange { roles: Some(roles.to_vec()), disabled: None }
}

fn disabled(disabled: bool) -> AccessChange {
    AccessChange { roles: None, disabled: Some(disabled) }
}

async fn change(system: &System, who: &UserId, change: AccessChange, by: &UserId) -> Result<u64, UserError> {
    let by = Authority::Administrator(by.clone());
    let changed = system.users.change_access(who, change, None, by, "a test", &request()).await?;
    Ok(changed.profile.version)
}

async fn names(system: &System) -> Vec<UserId> {
    let administrators = system.users.administrators(&request()).await.unwrap();
    administrators.into_iter().map(|profile| profile.user_id).collect()
}

#[tokio::test]
async fn an_account_that_somebody_registered_is_never_made_an_administrator() {
    let directory = tempfile::tempdir().unwrap();
    let system = System::start(directory.path()).await;
    let ann = system.users.register(ann(), None, &request()).await.unwrap();
    let before = system.recorded().await.len();
    for by in [Authority::FirstStart, Authority::Operator] {
        let refused = system.users.make_administrator(registration(EMAIL, PASSWORD), by, "", &request()).await;
        assert_eq!(refused, Err(UserError::EmailTaken));
    }
    let create = OperatorWish::Create { email: EMAIL.to_owned() };
    assert_eq!(system.users.for_operator(create, &request()).await.unwrap_err(), UserError::EmailTaken);
    assert_eq!(system.recorded().await.len(), before, "nothing was written");
    assert_eq!(names(&system).await, []);
    assert_eq!(system.users.owner_of(EMAIL).await.unwrap(), AddressOf::Customer);

    let admin = administrator(&system, "root@example.com").await;
    assert_eq!(names(&system).await, std::slice::from_ref(&admin));
    assert_eq!(system.users.owner_of("ROOT@example.com").await.unwrap(), AddressOf::Administrator);
    assert_eq!(system.users.owner_of("nobody@example.com").await.unwrap(), AddressOf::Nobody);
    // An administrator may.
    change(&system, &ann.profile.user_id, roles(&[Role::Admin]), &admin).await.unwrap();
    let administrators = system.users.administrators(&request()).await.unwrap();
    let how: Vec<_> = administrators.iter().map(|profile| profile.grants[&Role::Admin].by.clone().unwrap()).collect();
    assert_eq!(administrators.len(), 2);
    assert!(how.contains(&Authority::FirstStart) && how.contains(&Authority::Administrator(admin.clone())), "{how:?}");
    let told: Vec<Message> = system
        .recorded()
        .await
        .iter()
        .flat_map(|event| UserService::outbox(event).unwrap())
        .map(|envelope| envelope.message)
        .filter(|message| matches!(message, Message::UserRoleChanged { .. }))
        .collect();
    let told_of = |user_id: &UserId, granted_by: &str, reason: &str| Message::UserRoleChanged {
        user_id: user_id.clone(),
        roles: vec!["customer".into(), "admin".into()],
        granted_by: granted_by.into(),
        reason: reason.into(),
    };
    let expected =
        [told_of(&admin, "first_start", "the shop had none"), told_of(&ann.profile.user_id, admin.as_str(), "a test")];
    assert_eq!(told, expected);
    system.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn however_many_leave_at_once_one_administrator_is_left() {
    let directory = tempfile::tempdir().unwrap();
    let system = System::start(directory.path()).await;
    for round in 0..5 {
        let mut all = names(&system).await;
        while all.len() < 4 {
            all.push(administrator(&system, &format!("admin-{round}-{}@example.com", all.len())).await);
        }
        let changes = all.iter().enumerate().map(|(number, who)| {
            let leave = if number % 2 == 0 { roles(&[]) } else { disabled(true) };
            change(&system, who, leave, who)
        });
        let outcomes = join_all(changes).await;
        let refused = outcomes.iter().filter(|outcome| **outcome == Err(UserError::LastAdministrator)).count();
        let left = names(&system).await;
        assert_eq!((outcomes.iter().filter(|outcome| outcome.is_ok()).count(), refused), (3, 1), "{outcomes:?}");
        assert_eq!(left.len(), 1, "{outcomes:?}");
        assert_eq!(change(&system, &left[0], disabled(true), &left[0]).await, Err(UserError::LastAdministrator));
        assert_eq!(
            change(&system, &left[0], roles(&[Role::Support]), &left[0]).await,
            Err(UserError::LastAdministrator)
        );
    }
    system.stop().await;
}

/// The administrators' entity says that somebody leaves, and the process dies before they have left.
#[tokio::test]
async fn what_a_crash_left_half_done_is_set_right_by_what_the_users_are() {
    let directory = tempfile::tempdir().unwrap();
    let system = System::start(directory.path()).await;
    let (one, other) = (administrator(&system, "a@example.com").await, administrator(&system, "b@example.com").await);
    let begin = |is_leaving, user_id: &UserId| AdministratorsCommand::Begin {
        user_id: user_id.clone(),
        change: "lost".into(),
        is_leaving,
        // Long ago: its lease is over.
        now: contracts::Timestamp::from_seconds(1),
    };
    let meta = || request().command(CommandId::of(&["begin", UserId::generate().as_str()]));
    system.users.entities_of_administrators().ask("all", begin(true, &one), meta()).await.unwrap();
    // Now only `other` is certain; `one` is still an administrator, so `other` may leave.
    change(&system, &other, roles(&[]), &other).await.unwrap();
    assert_eq!(names(&system).await, std::slice::from_ref(&one));
    assert_eq!(change(&system, &one, disabled(true), &one).await, Err(UserError::LastAdministrator));
    system.stop().await;
}

#[tokio::test]
async fn who_is_disabled_is_out_at_once_and_is_told_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let system = System::start(directory.path()).await;
    let admin = administrator(&system, "root@example.com").await;
    let ann = system.users.register(ann(), None, &request()).await.unwrap();
    let (ann_id, first) = (ann.profile.user_id, ann.tokens);
    let second = system.users.login(EMAIL, Password::new(PASSWORD), &request()).await.unwrap().tokens;

    let by = Authority::Administrator(admin.clone());
    let changed = system.users.change_access(&ann_id, disabled(true), Some(1), by, "fraud", &request()).await.unwrap();
    let mut ended = changed.ended;
    ended.sort();
    let mut expected = vec![first.session_id.clone(), second.session_id.clone()];
    expected.sort();
    assert_eq!(ended, expected);
    for token in [&first.refresh_token, &second.refresh_token] {
        let refused = system.users.refresh(token.as_str(), &request()).await;
        assert_eq!(refused.unwrap_err(), UserError::SessionExpired);
    }
    let refused = system.users.login(EMAIL, Password::new(PASSWORD), &request()).await;
    assert_eq!(refused.unwrap_err(), UserError::InvalidCredentials);
    let stale =
        system.users.change_access(&ann_id, disabled(false), Some(1), Authority::Operator, "", &request()).await;
    assert_eq!(stale.unwrap_err(), UserError::Precondition { current_version: 2 });

    change(&system, &ann_id, disabled(false), &admin).await.unwrap();
    let again = system.users.login(EMAIL, Password::new(PASSWORD), &request()).await.unwrap().tokens;
    // A role more costs nobody their session; a role less does.
    change(&system, &ann_id, roles(&[Role::Support]), &admin).await.unwrap();
    assert!(system.users.session_is_live(&again.session_id, &request()).await.unwrap());
    change(&system, &ann_id, roles(&[]), &admin).await.unwrap();
    assert!(!system.users.session_is_live(&again.session_id, &request()).await.unwrap());
    let nobody = change(&system, &UserId::generate(), disabled(true), &admin).await;
    assert_eq!(nobody, Err(UserError::NotFound));
    system.stop().await;
}

/// Whoever signs in while they are being disabled is out in the end, whichever came first.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sign_in_beside_a_disabling_leaves_no_live_session() {
    let directory = tempfile::tempdir().unwrap();
    let system = System::start(directory.path()).await;
    let admin = administrator(&system, "root@example.com").await;
    let ann_id = system.users.register(ann(), None, &request()).await.unwrap().profile.user_id;
    for _ in 0..10 {
        let context = request();
        let sign_in = system.users.login(EMAIL, Password::new(PASSWORD), &context);
        let (signed_in, changed) = tokio::join!(sign_in, change(&system, &ann_id, disabled(true), &admin));
        changed.unwrap();
        if let Ok(signed_in) = signed_in {
            assert!(!system.users.session_is_live(&signed_in.tokens.session_id, &request()).await.unwrap());
        }
        change(&system, &ann_id, disabled(false), &admin).await.unwrap();
    }
    system.stop().await;
}

#[tokio::test]
async fn another_password_needs_the_present_one_and_ends_the_other_sessions() {
    let directory = tempfile::tempdir().unwrap();
    let system = System::start(directory.path()).await;
    let ann = system.users.register(ann(), None, &request()).await.unwrap();
    let (ann_id, own) = (ann.profile.user_id, ann.tokens);
    let other = system.users.login(EMAIL, Password::new(PASSWORD), &request()).await.unwrap().tokens;
    let (users, session_id) = (system.users.clone(), own.session_id.clone());
    let to = |current: &str, new: &str| {
        let (users, ann_id, session_id) = (users.clone(), ann_id.clone(), session_id.clone());
        let (current, new) = (Password::new(current), Password::new(new));
        async move { users.change_password(&ann_id, &session_id, current, new, &request()).await }
    };
    let new = "a much better horse";
    assert_eq!(to("wrong horse", new).await, Err(UserError::InvalidCredentials));
    for bad in ["short", "password1", "ann@example.com", &"x".repeat(129)] {
        let Err(UserError::Invalid(faults)) = to(PASSWORD, bad).await else { panic!("{bad} is refused") };
        assert_eq!(faults[0].field, "new_password", "{bad}");
    }
    assert_eq!(to(PASSWORD, new).await, Ok(vec![other.session_id.clone()]));
    assert_eq!(to(PASSWORD, new).await, Err(UserError::InvalidCredentials), "the former one");
    assert_eq!(
        system.users.refresh(other.refresh_token.as_str(), &request()).await.unwrap_err(),
        UserError::SessionExpired
    );
    system.users.refresh(own.refresh_token.as_str(), &request()).await.unwrap();
    let former = system.users.login(EMAIL, Password::new(PASSWORD), &request()).await;
    assert_eq!(former.unwrap_err(), UserError::InvalidCredentials);
    system.users.login(EMAIL, Password::new(new), &request()).await.unwrap();
    let told: Vec<_> = system.recorded().await.iter().flat_map(|event| UserService::outbox(event).unwrap()).collect();
    let changes = told.iter().filter(|told| told.message == Message::UserPasswordChanged { user_id: ann_id.clone() });
    assert_eq!(changes.count(), 1);
    system.stop().await;
}

#[tokio::test]
async fn a_common_password_is_no_password_and_says_why() {
    let directory = tempfile::tempdir().unwrap();
    let system = System::start(directory.path()).await;
    for (email, password) in [("x@example.com", "password123"), ("annabel@example.com", "annabel1")] {
        let Err(UserError::Invalid(faults)) =
            system.users.register(registration(email, password), None, &request()).await
        else {
            panic!("{password} is refused")
        };
        assert_eq!(faults.len(), 1);
        assert!(faults[0].field == "password" && faults[0].reason.contains("common"), "{faults:?}");
    }
    system.users.register(registration("test@example.com", "testPassword123"), None, &request()).await.unwrap();
    system.stop().await;
}

#[tokio::test]
async fn a_refused_sign_in_is_an_event_of_the_user_without_any_address() {
    let directory = tempfile::tempdir().unwrap();
    let system = System::start(directory.path()).await;
    let ann_id = system.users.register(ann(), None, &request()).await.unwrap().profile.user_id;
    let mut from = request();
    from.remote = Some("192.0.2.7".parse().unwrap());
    for email in [EMAIL, "nobody@example.com"] {
        let refused = system.users.login(email, Password::new("wrong horse"), &from).await;
        assert_eq!(refused.unwrap_err(), UserError::InvalidCredentials);
    }
    // It is written beside the answer.
    let started = Instant::now();
    let told = loop {
        let recorded = system.recorded().await;
        let told: Vec<_> = recorded.iter().flat_map(|event| UserService::outbox(event).unwrap()).collect();
        let failed: Vec<_> =
            told.into_iter().filter(|told| matches!(told.message, Message::UserLoginFailed { .. })).collect();
        if !failed.is_empty() {
            break failed;
        }
        assert!(started.elapsed() < SOON, "no event");
        tokio::task::yield_now().await;
    };
    let [told] = &told[..] else { panic!("{told:?}") };
    assert_eq!((told.subject.as_str(), told.correlation_id.as_deref()), (ann_id.as_str(), Some("req_test")));
    let json = serde_json::to_string(told).unwrap();
    assert!(json.contains("\"ip_hash\":\"") && !json.contains("192.0.2.7") && !json.contains('@'), "{json}");
    // Nobody's version has changed by it.
    assert_eq!(system.users.profile(&ann_id).await.unwrap().version, 1);
    system.stop().await;
}

#[tokio::test]
async fn the_operator_makes_lists_resets_and_revokes_and_is_named_in_every_event() {
    let directory = tempfile::tempdir().unwrap();
    let system = System::start(directory.path()).await;
    let wish = |wish| {
        let users = system.users.clone();
        async move { users.for_operator(wish, &request()).await.map(|(answer, _)| answer) }
    };
    let credentials = |answer| match answer {
        OperatorAnswer::Credentials { user_id, password } => (user_id, password),
        other => panic!("{other:?}"),
    };
    let first = wish(OperatorWish::Create { email: "one@example.com".into() }).await.unwrap();
    let (first, password) = credentials(first);
    system.users.login("one@example.com", Password::new(&password), &request()).await.unwrap();
    let (second, _) = credentials(wish(OperatorWish::Create { email: "two@example.com".into() }).await.unwrap());
    let OperatorAnswer::Administrators(lines) = wish(OperatorWish::List).await.unwrap() else { panic!("a list") };
    assert_eq!(lines.len(), 2);
    assert!(lines.iter().all(|line| line.contains("operator") && !line.contains("example.com")), "{lines:?}");

    let reset = wish(OperatorWish::ResetPassword { user: first.to_string() }).await.unwrap();
    let (_, other_password) = credentials(reset);
    assert!(system.users.login("one@example.com", Password::new(&password), &request()).await.is_err());
    let tokens =
        system.users.login("one@example.com", Password::new(&other_password), &request()).await.unwrap().tokens;
    let revoked = wish(OperatorWish::Revoke { user: "ONE@example.com".into() }).await.unwrap();
    assert_eq!(revoked, OperatorAnswer::Revoked(first.clone()));
    assert!(!system.users.session_is_live(&tokens.session_id, &request()).await.unwrap());
    for (user, error) in [
        (second.to_string(), UserError::LastAdministrator),
        (first.to_string(), UserError::NotAnAdministrator),
        ("nobody@example.com".to_owned(), UserError::NotFound),
    ] {
        assert_eq!(wish(OperatorWish::Revoke { user }).await.unwrap_err(), error);
    }
    let reset = wish(OperatorWish::ResetPassword { user: first.to_string() }).await;
    assert_eq!(reset.unwrap_err(), UserError::NotAnAdministrator);

    let by_operator = ["user.registered", "user.roles_changed", "user.password_changed"];
    let recorded = system.recorded().await;
    let of_operator: Vec<_> =
        recorded.iter().filter(|event| by_operator.contains(&event.event_type.as_ref())).collect();
    assert_eq!(of_operator.len(), 6);
    assert!(of_operator.iter().all(|event| event.actor.as_deref() == Some("operator")), "{of_operator:?}");
    system.stop().await;
}

#[tokio::test]
async fn administrators_are_found_and_users_are_paged_through_indexes() {
    let directory = tempfile::tempdir().unwrap();
    let system = System::start(directory.path()).await;
    let mut all = vec![administrator(&system, "root@example.com").await];
    for number in 0..4 {
        // A name that looks like a role in the document is none.
        let mut registration = registration(&format!("user-{number}@example.com"), PASSWORD);
        registration.first_name = "\"admin\"".into();
        registration.last_name = "admin".into();
        all.push(system.users.register(registration, None, &request()).await.unwrap().profile.user_id);
    }
    all.sort();
    let (mut after, mut seen) = (None, Vec::new());
    loop {
        let page = system.users.list_users(after.as_ref(), 2).await.unwrap();
        seen.extend(page.users.into_iter().map(|user| user.user_id));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(seen, all);
    assert_eq!(names(&system).await.len(), 1);

    let plan = async |sql: &'static str, params| {
        let rows = system.journal.query(sql, params).await.unwrap();
        rows.iter().map(|row| row.text(3).unwrap().to_owned()).collect::<Vec<_>>().join("; ")
    };
    let administrators = plan(
        "EXPLAIN QUERY PLAN SELECT doc FROM users INDEXED BY users_administrators WHERE user_id > '' \
         AND instr(json_extract(doc, '$.roles'), '\"admin\"') > 0 ORDER BY user_id LIMIT ?1",
        vec![10.into()],
    )
    .await;
    assert!(administrators.contains("users_administrators"), "{administrators}");
    system.stop().await;
}
