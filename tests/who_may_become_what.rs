//! Who may become what: strangers, settings that name them, administrators, the operator; and what somebody loses, at once.
//!
//! In every form: `SHOP_FORM` says which.

#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod shop;

use std::process::Output;
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use shop::{ADMIN_EMAIL, ADMIN_PASSWORD, Answer, Buyer, Client, Opening, PASSWORD, Product, Shop, until};

/// What another process must hear of first.
const SOON: Duration = Duration::from_secs(10);
/// Where earlier builds expected the administrator.
const FORMER_DEFAULT: &str = "admin@microcommerce.local";
const ANOTHER_PASSWORD: &str = "a much better horse";

fn roles(client: &Client) -> Value {
    client.get("/api/v1/users/profile").send().expect(200).json()["roles"].clone()
}

fn login(shop: &Shop, email: &str, password: &str) -> Answer {
    shop.client().post("/api/v1/users/login", json!({"email": email, "password": password})).send_patiently()
}

fn refresh(shop: &Shop, token: &str) -> Answer {
    shop.client().post("/api/v1/users/refresh", json!({"refresh_token": token})).send_patiently()
}

fn user_path(user_id: &str) -> String {
    format!("/api/v1/admin/users/{user_id}")
}

fn seen(admin: &Client, user_id: &str) -> Answer {
    admin.get(&user_path(user_id)).send().expect(200)
}

/// Changes a user as they are now.
fn change(admin: &Client, user_id: &str, body: Value) -> Answer {
    let etag = seen(admin, user_id).header("ETag").unwrap().to_owned();
    admin.patch(&user_path(user_id), body).if_match(&etag).send()
}

fn own_id(client: &Client) -> String {
    client.get("/api/v1/users/profile").send().expect(200).string("user_id")
}

fn operator(shop: &Shop, arguments: &[&str]) -> Output {
    // As an operator would see it: without a log beside the sentence.
    shop.command().env("RUST_LOG", "off").arg("admin").args(arguments).output().unwrap()
}

#[track_caller]
fn said(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    text
}

/// The one sentence of a command that was refused.
#[track_caller]
fn refused(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!((output.status.code(), text.trim().lines().count()), (Some(1), 1), "{text}");
    text
}

/// The password that a command showed.
#[track_caller]
fn shown_password(output: &Output) -> String {
    let text = said(output);
    text.trim().rsplit(' ').next().unwrap().to_owned()
}

#[test]
fn a_stranger_who_has_the_default_address_or_the_one_that_a_setting_names_stays_a_customer() {
    let mut shop = Shop::start();
    let person = json!({"email": FORMER_DEFAULT, "password": PASSWORD, "first_name": "A", "last_name": "Stranger"});
    let stranger = shop.client().post("/api/v1/users/register", person).send_patiently().expect(201);
    for name_the_stranger in [false, true] {
        shop.kill_9();
        shop.change_setting("ADMIN_EMAIL", name_the_stranger.then_some(FORMER_DEFAULT));
        shop.reopen();
        let signed_in = shop.sign_in(FORMER_DEFAULT, PASSWORD);
        assert_eq!(roles(&signed_in), json!(["customer"]));
        signed_in.post("/api/v1/products", "{}").send().expect_error(403, "AUTHORIZATION_FAILED");
        signed_in.get("/api/v1/admin/users").send().expect_error(403, "AUTHORIZATION_FAILED");
        let is_warned = || shop.log().contains("ADMIN_EMAIL has no effect: it is the address of a customer");
        match name_the_stranger {
            true => until(SOON, "it says that the setting has no effect", || is_warned().then_some(())),
            false => assert!(!is_warned(), "{}", shop.log()),
        }
    }
    let refreshed = refresh(&shop, &stranger.string("refresh_token")).expect(200);
    assert_eq!(roles(&shop.client().with_token(&refreshed.string("access_token"))), json!(["customer"]));
    assert_eq!(roles(&shop.admin()), json!(["customer", "admin"]));
}

#[test]
fn the_first_start_makes_an_administrator_of_its_own_and_says_so_last_and_once() {
    let open = || Opening::new().unset("ADMIN_EMAIL").unset("ADMIN_PASSWORD").set("RUST_LOG", "off").open();
    let credentials = |shop: &Shop| {
        let log = shop.log();
        let line = until(SOON, "the credentials are printed", || {
            shop.log().lines().find(|line| line.contains("ADMIN_EMAIL=")).map(str::to_owned)
        });
        let after = |name: &str| line.split(name).nth(1).unwrap().split(' ').next().unwrap().to_owned();
        (after("ADMIN_EMAIL="), after("ADMIN_PASSWORD="), log)
    };
    let (mut shop, other) = (open(), open());
    let (email, password, _) = credentials(&shop);
    let (other_email, other_password, _) = credentials(&other);
    assert!(email != other_email && password != other_password, "{email} {other_email}");
    assert_ne!(email, FORMER_DEFAULT);
    let admin = shop.sign_in(&email, &password);
    assert_eq!(roles(&admin), json!(["customer", "admin"]));
    let user_id = own_id(&admin);
    // Nothing of that process comes after it.
    shop.wait_for_line(&["Administrators: ", "first start"]);
    let log = shop.log();
    let greeting: Vec<&str> = log.lines().skip_while(|line| !line.starts_with("Administrators: ")).collect();
    assert!(greeting[0].contains(&user_id) && greeting[0].contains("first start"), "{log}");
    assert!(greeting[1].contains(&password), "{log}");

    shop.kill_9();
    shop.reopen();
    let log = until(SOON, "it lists the administrators again", || {
        Some(shop.log()).filter(|log| log.matches("Administrators: ").count() == 2)
    });
    assert_eq!(log.matches(&password).count(), 1, "printed once:\n{log}");
    assert!(
        !log.lines().filter(|line| line.starts_with("Administrators: ")).any(|line| line.contains(&email)),
        "{log}"
    );
}

#[test]
fn an_administrator_gives_and_takes_roles_and_the_last_one_stays() {
    let shop = Shop::start();
    let admin = shop.admin();
    let admin_id = own_id(&admin);
    let buyer = shop.register("buyer@example.com");
    let path = user_path(&buyer.user_id);

    for client in [&shop.client(), &buyer.client] {
        let status = if client.get("/api/v1/users/profile").send().status == 200 { 403 } else { 401 };
        assert_eq!(client.get("/api/v1/admin/users").send().status, status);
        assert_eq!(client.get(&path).send().status, status);
        assert_eq!(client.patch(&path, json!({"roles": ["admin"]})).if_match("*").send().status, status);
    }
    admin.get("/api/v1/admin/users/usr_nobody").send().expect_error(404, "RESOURCE_NOT_FOUND");
    let nobody = admin.patch("/api/v1/admin/users/usr_nobody", json!({"roles": []})).if_match("*").send();
    nobody.expect_error(404, "RESOURCE_NOT_FOUND");
    let promote = json!({"roles": ["support", "admin"]});
    admin.patch(&path, &promote).send().expect_error(428, "PRECONDITION_REQUIRED");
    let stale = admin.patch(&path, &promote).if_match("\"7\"").send().expect_error(412, "PRECONDITION_FAILED");
    assert_eq!(stale["details"]["current_version"], 1);
    for wrong in [json!({}), json!({"roles": ["king"]}), json!({"disabled": "yes"})] {
        admin.patch(&path, wrong).if_match("\"1\"").send().expect_error(422, "VALIDATION_ERROR");
    }
    admin.delete(&path).send().expect_error(405, "METHOD_NOT_ALLOWED");

    let last = change(&admin, &admin_id, json!({"roles": ["support"]})).expect_error(409, "RESOURCE_CONFLICT");
    assert!(last["message"].as_str().unwrap().contains("last administrator"), "{last}");
    change(&admin, &admin_id, json!({"disabled": true})).expect_error(409, "RESOURCE_CONFLICT");

    let promoted = admin.patch(&path, &promote).if_match("\"1\"").send().expect(200);
    assert_eq!(
        (promoted.header("ETag"), promoted.json()["roles"].clone()),
        (Some("\"2\""), json!(["customer", "support", "admin"]))
    );
    assert_eq!(promoted.json()["granted"]["admin"]["by"], admin_id.as_str());
    assert_eq!(promoted.header("Cache-Control"), Some("private, no-store"));
    let known = admin.get(&path).header("If-None-Match", "\"2\"").send();
    assert_eq!(known.status, 304);
    // The token of before says what was; the next one says what is.
    let second = shop.sign_in_again(&buyer).client;
    assert_eq!(seen(&second, &admin_id).json()["granted"]["admin"]["by"], "first_start");

    // Each takes the other's role at the same moment.
    let outcomes: Vec<u16> = thread::scope(|scope| {
        let takes = [(&admin, &buyer.user_id), (&second, &admin_id)].map(|(by, of)| {
            let etag = seen(by, of).header("ETag").unwrap().to_owned();
            scope.spawn(move || by.patch(&user_path(of), json!({"roles": []})).if_match(&etag).send().status)
        });
        takes.into_iter().map(|take| take.join().unwrap()).collect()
    });
    // Who came second was the last one, or was none any more when they asked.
    assert_eq!(outcomes.iter().filter(|status| **status == 200).count(), 1, "{outcomes:?}");
    assert!(outcomes.iter().all(|status| [200, 401, 403, 409].contains(status)), "{outcomes:?}");
    let left: Vec<Client> = [(ADMIN_EMAIL, ADMIN_PASSWORD), ("buyer@example.com", PASSWORD)]
        .into_iter()
        .map(|(email, password)| shop.sign_in(email, password))
        .filter(|client| client.get("/api/v1/admin/users").send().status == 200)
        .collect();
    assert_eq!(left.len(), 1);
}

#[test]
fn users_are_listed_by_pages_that_neither_repeat_nor_skip() {
    let shop = Shop::start();
    let admin = shop.admin();
    let mut all: Vec<String> =
        (0..5).map(|number| shop.register(&format!("buyer-{number}@example.com")).user_id).collect();
    all.push(own_id(&admin));
    all.sort();
    let (mut cursor, mut seen) = (String::new(), Vec::new());
    loop {
        let page = admin.get(&format!("/api/v1/admin/users?limit=2{cursor}")).send().expect(200);
        let body = page.json();
        let users = body["users"].as_array().unwrap();
        assert!(users.len() <= 2 && users.iter().all(|user| user.get("password_hash").is_none()));
        seen.extend(users.iter().map(|user| user["user_id"].as_str().unwrap().to_owned()));
        match body["pagination"]["next_cursor"].as_str() {
            Some(next) => {
                assert!(page.header("Link").unwrap().contains(next));
                cursor = format!("&cursor={next}");
            }
            None => break,
        }
    }
    assert_eq!(seen, all);
    for wrong in ["cursor=zz", "limit=0", "limit=101"] {
        admin.get(&format!("/api/v1/admin/users?{wrong}")).send().expect_error(400, "VALIDATION_ERROR");
    }
}

#[test]
fn who_is_disabled_or_loses_a_role_is_out_at_once_also_with_a_token_that_was_good() {
    let shop = Shop::start();
    let admin = shop.admin();
    let buyer = shop.register("buyer@example.com");
    let second = login(&shop, &buyer.email, PASSWORD).expect(200);
    let second_client = shop.client().with_token(&second.string("access_token"));
    assert_eq!(roles(&second_client), json!(["customer"]));

    change(&admin, &buyer.user_id, json!({"disabled": true})).expect(200);
    // The answer is out: so are they.
    for client in [&buyer.client, &second_client] {
        client.get("/api/v1/users/profile").send().expect_error(401, "AUTHENTICATION_REQUIRED");
        client.get("/api/v1/orders").send().expect_error(401, "AUTHENTICATION_REQUIRED");
    }
    refresh(&shop, &second.string("refresh_token")).expect_error(401, "AUTHENTICATION_REQUIRED");
    let disabled = login(&shop, &buyer.email, PASSWORD).expect_error(401, "INVALID_CREDENTIALS");
    let wrong = login(&shop, &buyer.email, "wrongPassword1").expect_error(401, "INVALID_CREDENTIALS");
    assert_eq!(disabled["message"], wrong["message"], "it tells nobody whose password it is");
    assert_eq!(seen(&admin, &buyer.user_id).json()["disabled"], true);

    change(&admin, &buyer.user_id, json!({"disabled": false, "roles": ["catalog_manager"]})).expect(200);
    let manager = shop.sign_in_again(&buyer).client;
    Product::create(&manager, "Cable", "12.34", 1);
    change(&admin, &buyer.user_id, json!({"roles": []})).expect(200);
    manager.post("/api/v1/products", "{}").send().expect_error(401, "AUTHENTICATION_REQUIRED");
    let customer = shop.sign_in_again(&buyer).client;
    customer.post("/api/v1/products", "{}").send().expect_error(403, "AUTHORIZATION_FAILED");
}

#[test]
fn another_password_ends_the_other_sessions_at_once() {
    let shop = Shop::start();
    let buyer = shop.register("buyer@example.com");
    let other = login(&shop, &buyer.email, PASSWORD).expect(200);
    let other_client = shop.client().with_token(&other.string("access_token"));
    assert_eq!(roles(&other_client), json!(["customer"]));
    let to = |client: &Client, current: &str, new: &str| {
        client.post("/api/v1/users/password", json!({"current_password": current, "new_password": new})).send()
    };
    to(&shop.client(), PASSWORD, ANOTHER_PASSWORD).expect_error(401, "AUTHENTICATION_REQUIRED");
    to(&buyer.client, "wrongPassword1", ANOTHER_PASSWORD).expect_error(401, "INVALID_CREDENTIALS");
    for bad in ["short", "password123", "buyer@example.com", &"x".repeat(129)] {
        let error = to(&buyer.client, PASSWORD, bad).expect_error(422, "VALIDATION_ERROR");
        assert_eq!(error["details"]["field"], "new_password", "{bad}");
    }
    buyer.client.post("/api/v1/users/password", "{}").send().expect_error(422, "VALIDATION_ERROR");
    assert_eq!(roles(&other_client), json!(["customer"]), "nothing has changed yet");

    to(&buyer.client, PASSWORD, ANOTHER_PASSWORD).expect(204);
    other_client.get("/api/v1/users/profile").send().expect_error(401, "AUTHENTICATION_REQUIRED");
    refresh(&shop, &other.string("refresh_token")).expect_error(401, "AUTHENTICATION_REQUIRED");
    assert_eq!(roles(&buyer.client), json!(["customer"]), "the session that changed it goes on");
    login(&shop, &buyer.email, PASSWORD).expect_error(401, "INVALID_CREDENTIALS");
    login(&shop, &buyer.email, ANOTHER_PASSWORD).expect(200);
}

#[test]
fn a_password_is_guessed_slowly_also_by_who_has_a_token() {
    let shop = Opening::new().set("RATE_LIMIT_PROFILE", "default").open();
    let buyer = shop.register("buyer@example.com");
    let statuses: Vec<u16> = (0..6)
        .map(|number| {
            let body = json!({"current_password": format!("wrongPassword{number}"), "new_password": ANOTHER_PASSWORD});
            buyer.client.post("/api/v1/users/password", body).send().status
        })
        .collect();
    assert_eq!(statuses, [401, 401, 401, 401, 401, 429]);
}

#[test]
fn passwords_that_everybody_tries_first_are_refused_with_the_reason() {
    let shop = Shop::start();
    let client = shop.client();
    let register = |email: &str, password: &str| {
        let person = json!({"email": email, "password": password, "first_name": "Annabel", "last_name": "Lee"});
        client.post("/api/v1/users/register", person).send()
    };
    let long = "x".repeat(129);
    for (password, why) in [
        ("1234567", "at least 8"),
        (long.as_str(), "at most 128"),
        ("password123", "common"),
        ("qwertyuiop", "common"),
        ("annabel1", "common"),
        ("annabel.lee@example.com", "common"),
    ] {
        let error = register("annabel.lee@example.com", password).expect_error(422, "VALIDATION_ERROR");
        assert_eq!(error["details"]["field"], "password", "{error}");
        assert!(error["details"]["reason"].as_str().unwrap().contains(why), "{password}: {error}");
    }
    register("annabel.lee@example.com", &"ä9-".repeat(42)).expect(201);
    login(&shop, "annabel.lee@example.com", &"ä9-".repeat(42)).expect(200);
    // What is longer than any password is a wrong one, however long.
    for length in [129, 5_000] {
        login(&shop, "annabel.lee@example.com", &"x".repeat(length)).expect_error(401, "INVALID_CREDENTIALS");
    }
}

#[test]
fn no_cache_keeps_what_is_somebodys_own() {
    let shop = Shop::start();
    let no_store =
        |answer: &Answer| assert_eq!(answer.header("Cache-Control"), Some("private, no-store"), "{}", answer.text);
    let person = json!({"email": "a@example.com", "password": PASSWORD, "first_name": "A", "last_name": "B"});
    let registered = shop.client().post("/api/v1/users/register", person).send_patiently().expect(201);
    no_store(&registered);
    let alias = json!({"email": "a@example.com", "password": PASSWORD});
    no_store(&shop.client().post("/api/v1/auth/login", alias).send().expect(200));
    no_store(&login(&shop, "a@example.com", PASSWORD).expect(200));
    no_store(&login(&shop, "a@example.com", "wrongPassword1").expect(401));
    no_store(&refresh(&shop, &registered.string("refresh_token")).expect(200));
    let client = shop.client().with_token(&registered.string("access_token"));
    for path in ["/api/v1/users/profile", "/api/v1/orders"] {
        no_store(&client.get(path).send().expect(200));
    }
    let catalogue = shop.client().get("/api/v1/products").send().expect(200);
    assert!(catalogue.header("Cache-Control").is_none_or(|value| !value.contains("no-store")));
}

#[test]
fn grants_and_refused_sign_ins_are_in_the_log_without_the_address() {
    let shop = Opening::new().set("RUST_LOG", "info").open();
    let admin = shop.admin();
    let buyer = shop.register("buyer@example.com");
    let of_known = login(&shop, &buyer.email, "wrongPassword1").expect(401);
    let of_unknown = login(&shop, "nobody@example.com", "wrongPassword1").expect(401);
    let granted = change(&admin, &buyer.user_id, json!({"roles": ["support"]})).expect(200);
    let line_of = |answer: &Answer, what: &str| {
        let request_id = answer.header("X-Request-Id").unwrap().to_owned();
        until(SOON, "the line is in the log", || {
            let log = shop.log();
            log.lines().find(|line| line.contains(what) && line.contains(&request_id)).map(str::to_owned)
        })
    };
    let known = line_of(&of_known, "sign-in refused");
    assert!(known.contains(&buyer.user_id) && known.contains("wrong password"), "{known}");
    let unknown = line_of(&of_unknown, "sign-in refused");
    assert!(unknown.contains("address_hash=") && unknown.contains("unknown address"), "{unknown}");
    let grant = line_of(&granted, "roles changed");
    assert!(grant.contains(&buyer.user_id) && grant.contains(&own_id(&admin)) && grant.contains("support"), "{grant}");
    for line in [&known, &unknown, &grant] {
        assert!(line.contains("remote=127.0.0.1"), "{line}");
    }
    let log = shop.log();
    for address in ["buyer@example.com", "nobody@example.com", ADMIN_EMAIL] {
        assert!(!log.contains(address), "{log}");
    }
}

#[test]
fn the_operator_does_it_on_a_shop_that_runs() {
    let shop = Shop::start();
    let admin = shop.admin();
    let listed = said(&operator(&shop, &["list"]));
    assert!(listed.contains(&own_id(&admin)) && listed.contains("first start"), "{listed}");
    assert!(!listed.contains(ADMIN_EMAIL), "{listed}");
    let last = refused(&operator(&shop, &["revoke", ADMIN_EMAIL]));
    assert!(last.contains("last administrator"), "{last}");

    let buyer = shop.register("buyer@example.com");
    let taken = refused(&operator(&shop, &["create", "buyer@example.com"]));
    assert!(taken.contains("already registered"), "{taken}");
    assert_eq!(roles(&buyer.client), json!(["customer"]));
    let invalid = refused(&operator(&shop, &["create", "nobody"]));
    assert!(invalid.contains("email"), "{invalid}");

    let password = shown_password(&operator(&shop, &["create", "second@example.com"]));
    let second = shop.sign_in("second@example.com", &password);
    assert_eq!(roles(&second), json!(["customer", "admin"]));
    let second_id = own_id(&second);
    assert_eq!(seen(&admin, &second_id).json()["granted"]["admin"]["by"], "operator");

    let reset = shown_password(&operator(&shop, &["reset-password", &second_id]));
    until(SOON, "the sessions of before are over everywhere", || {
        (second.get("/api/v1/users/profile").send().status == 401).then_some(())
    });
    login(&shop, "second@example.com", &password).expect_error(401, "INVALID_CREDENTIALS");
    let second = shop.sign_in("second@example.com", &reset);
    said(&operator(&shop, &["revoke", "second@example.com"]));
    until(SOON, "they are out everywhere", || (second.get("/api/v1/users/profile").send().status == 401).then_some(()));
    assert_eq!(roles(&shop.sign_in("second@example.com", &reset)), json!(["customer"]));
    let none = refused(&operator(&shop, &["reset-password", "buyer@example.com"]));
    assert!(none.contains("no administrator"), "{none}");
    assert_eq!(said(&operator(&shop, &["list"])).lines().count(), 1);
}

#[test]
fn the_operator_does_it_on_a_shop_that_does_not_run_and_leaves_it_to_the_next_start() {
    let mut shop = Shop::start();
    let admin_id = own_id(&shop.admin());
    let buyer: Buyer = shop.register("buyer@example.com");
    shop.kill_9();
    assert!(said(&operator(&shop, &["list"])).contains(&admin_id));
    refused(&operator(&shop, &["create", "buyer@example.com"]));
    refused(&operator(&shop, &["revoke", &admin_id]));
    // Whose password nobody has any more.
    let password = shown_password(&operator(&shop, &["create", "second@example.com"]));
    let reset = shown_password(&operator(&shop, &["reset-password", ADMIN_EMAIL]));
    said(&operator(&shop, &["revoke", "second@example.com"]));

    shop.reopen();
    login(&shop, ADMIN_EMAIL, ADMIN_PASSWORD).expect_error(401, "INVALID_CREDENTIALS");
    assert_eq!(roles(&shop.sign_in(ADMIN_EMAIL, &reset)), json!(["customer", "admin"]));
    assert_eq!(roles(&shop.sign_in("second@example.com", &password)), json!(["customer"]));
    assert_eq!(roles(&shop.sign_in_again(&buyer).client), json!(["customer"]));

    let nowhere = tempfile::tempdir().unwrap();
    let missing = Opening::new().argument("admin").argument("list").run_to_end(&nowhere.path().join("none"));
    assert_eq!((missing.status.code(), missing.stderr.trim().lines().count()), (Some(1), 1), "{missing:?}");
    assert!(missing.stderr.contains("DATA_DIR") && !nowhere.path().join("none").exists(), "{missing:?}");
}

#[test]
fn a_setting_that_changes_nothing_says_so() {
    let mut shop = Opening::new().set("ADVERTISED_HOST", "somewhere").formed(shop::Form::One).open();
    let says = |shop: &Shop, sentence: &str| {
        until(SOON, sentence, || shop.log().contains(sentence).then_some(()));
    };
    says(&shop, "ADVERTISED_HOST has no effect");
    assert!(!shop.log().contains("ADMIN_PASSWORD has no effect"), "it made the administrator: {}", shop.log());
    shop.kill_9();
    shop.change_setting("ADMIN_PASSWORD", Some("another good password"));
    shop.reopen();
    says(&shop, "ADMIN_PASSWORD has no effect");
    login(&shop, ADMIN_EMAIL, "another good password").expect_error(401, "INVALID_CREDENTIALS");
    shop.admin();
}
