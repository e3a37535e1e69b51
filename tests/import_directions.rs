//! Which crate may know which: the arrows of `docs/ARCHITECTURE.md`, read from the manifests.
//!
//! A reader may trust that a service knows neither HTTP nor Kafka, that the bridge can be lifted out with the runtime alone,
//! and that the runtime has never heard of a shop. Nothing but this test keeps that true, so it also tests its own judge on
//! manifests that must be refused.

#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use toml::{Table, Value};

#[path = "import_directions/circles.rs"]
mod circles;

const SERVICES: [&str; 4] = ["actors/user", "actors/product", "actors/order", "actors/payment"];

/// What carries HTTP or Kafka; only the edge, the bridge and the root may touch it.
const HTTP_CRATES: [&str; 12] = [
    "warp",
    "hyper",
    "hyper-util",
    "http",
    "http-body-util",
    "axum",
    "actix-web",
    "reqwest",
    "ureq",
    "tower",
    "tower-http",
    "tonic",
];
const KAFKA_CRATES: [&str; 3] = ["rdkafka", "rdkafka-sys", "kafka"];

/// Words of the shop. `order` is missing because the runtime speaks of order in time; `order` beside another word of the
/// shop is in `COMMERCE_PAIRS`.
const COMMERCE_WORDS: [&str; 30] = [
    "payment",
    "payments",
    "product",
    "products",
    "cart",
    "carts",
    "checkout",
    "sku",
    "skus",
    "customer",
    "customers",
    "catalog",
    "catalogue",
    "price",
    "prices",
    "money",
    "shop",
    "shops",
    "refund",
    "refunds",
    "coupon",
    "coupons",
    "commerce",
    "warehouse",
    "buyer",
    "buyers",
    "invoice",
    "http",
    "kafka",
    "rdkafka",
];
const COMMERCE_PAIRS: [(&str, &str); 7] = [
    ("order", "id"),
    ("order", "placed"),
    ("order", "paid"),
    ("order", "line"),
    ("order", "service"),
    ("place", "order"),
    ("pay", "order"),
];

/// The arrows: which folders a folder's crate may depend on. `None` = anything of the house.
fn allowed(folder: &str) -> Option<BTreeSet<&'static str>> {
    let services_and_below = || SERVICES.into_iter().chain(["actors/runtime", "actors/contracts"]);
    match folder {
        "." | "benches" => None,
        // Itself alone: its tests switch its test kit on.
        "actors/runtime" => Some(BTreeSet::from(["actors/runtime"])),
        "actors/contracts" => Some(BTreeSet::new()),
        "bridge" => Some(BTreeSet::from(["actors/runtime"])),
        "http-edge" => Some(services_and_below().collect()),
        service if SERVICES.contains(&service) => Some(BTreeSet::from(["actors/runtime", "actors/contracts"])),
        // A new room of the house stands on nothing until its arrows are drawn here.
        _ => Some(BTreeSet::new()),
    }
}

/// One dependency as a manifest states it.
struct Dependency {
    /// The section it stands in, for the message.
    section: String,
    /// The key: the name in the code.
    name: String,
    /// The value beside the key.
    stated: Value,
}

/// Every dependency of a manifest: ordinary, dev and build, also per target.
fn dependencies(manifest: &Table) -> Vec<Dependency> {
    let mut found = Vec::new();
    collect(manifest, "", &mut found);
    if let Some(targets) = manifest.get("target").and_then(Value::as_table) {
        for (target, table) in targets {
            collect(table.as_table().unwrap(), &format!("target.{target}."), &mut found);
        }
    }
    found
}

fn collect(table: &Table, prefix: &str, found: &mut Vec<Dependency>) {
    for section in ["dependencies", "dev-dependencies", "build-dependencies"] {
        for (name, stated) in table.get(section).and_then(Value::as_table).into_iter().flatten() {
            found.push(Dependency {
                section: format!("{prefix}{section}"),
                name: name.clone(),
                stated: stated.clone(),
            });
        }
    }
}

/// The folder that a workspace dependency lies in, if it is of the house.
fn house_folder<'a>(workspace_dependencies: &'a Table, name: &str) -> Option<&'a str> {
    workspace_dependencies.get(name)?.get("path")?.as_str()
}

/// The name on the registry: a dependency may be renamed by `package = "…"`.
fn registry_name<'a>(workspace_dependencies: &'a Table, name: &'a str) -> &'a str {
    workspace_dependencies.get(name).and_then(|stated| stated.get("package")).and_then(Value::as_str).unwrap_or(name)
}

/// Everything that is wrong with one manifest, a sentence each.
fn faults(folder: &str, manifest: &Table, workspace_dependencies: &Table) -> Vec<String> {
    let mut faults = Vec::new();
    let allowed = allowed(folder);
    for dependency in dependencies(manifest) {
        let Dependency { section, name, stated } = &dependency;
        if stated.get("workspace").and_then(Value::as_bool) != Some(true) {
            faults.push(format!("{folder}: [{section}] {name} must say `workspace = true`: versions and features stand once, in the root"));
        }
        let direct_path = stated.get("path").and_then(Value::as_str);
        if let Some(target) = house_folder(workspace_dependencies, name).or(direct_path)
            && allowed.as_ref().is_some_and(|allowed| !allowed.contains(target))
        {
            faults.push(format!("{folder}: [{section}] {name} points at {target}, an arrow that is not drawn"));
        }
        let name = registry_name(workspace_dependencies, name);
        let is_service_or_below = folder.starts_with("actors/");
        if (is_service_or_below || folder == "bridge") && HTTP_CRATES.contains(&name) {
            faults.push(format!("{folder}: [{section}] {name} speaks HTTP, which only http-edge does"));
        }
        if (is_service_or_below || folder == "http-edge") && KAFKA_CRATES.contains(&name) {
            faults.push(format!("{folder}: [{section}] {name} speaks Kafka, which only the bridge does"));
        }
    }
    faults
}

fn house() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn manifest_of(folder: &str) -> Table {
    let path = house().join(folder).join("Cargo.toml");
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    text.parse().unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn workspace() -> Table {
    manifest_of(".")["workspace"].as_table().unwrap().clone()
}

#[test]
fn no_crate_depends_on_what_does_not_stand_below_it() {
    let workspace = workspace();
    let workspace_dependencies = workspace["dependencies"].as_table().unwrap();
    let members = workspace["members"].as_array().unwrap().iter().map(|member| member.as_str().unwrap());
    let faults: Vec<String> =
        members.chain(["."]).flat_map(|folder| faults(folder, &manifest_of(folder), workspace_dependencies)).collect();
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

#[test]
fn every_room_of_the_design_is_a_member() {
    let members = workspace()["members"].as_array().unwrap().clone();
    for folder in SERVICES.into_iter().chain(["actors/runtime", "actors/contracts", "bridge", "http-edge", "benches"]) {
        assert!(members.iter().any(|member| member.as_str() == Some(folder)), "{folder} is not a workspace member");
    }
}

#[test]
fn the_judge_refuses_each_kind_of_wrong_arrow() {
    let workspace = workspace();
    let workspace_dependencies = workspace["dependencies"].as_table().unwrap();
    let wrong = [
        ("actors/order", "[dependencies]\npayment-service.workspace = true", "an arrow that is not drawn"),
        ("actors/order", "[dev-dependencies]\nhttp-edge.workspace = true", "an arrow that is not drawn"),
        ("actors/order", "[dependencies]\nbridge.workspace = true", "an arrow that is not drawn"),
        ("actors/runtime", "[dependencies]\ncontracts.workspace = true", "an arrow that is not drawn"),
        ("bridge", "[dependencies]\ncontracts.workspace = true", "an arrow that is not drawn"),
        ("http-edge", "[dependencies]\nbridge = { path = \"../bridge\" }", "an arrow that is not drawn"),
        ("actors/user", "[target.'cfg(unix)'.dependencies]\nbridge.workspace = true", "an arrow that is not drawn"),
        ("actors/new", "[dependencies]\nruntime.workspace = true", "an arrow that is not drawn"),
        ("actors/user", "[dependencies]\nserde = \"1\"", "must say `workspace = true`"),
        ("actors/product", "[dependencies]\nwarp.workspace = true", "speaks HTTP"),
        ("http-edge", "[dependencies]\nrdkafka.workspace = true", "speaks Kafka"),
    ];
    for (folder, manifest, complaint) in wrong {
        let faults = faults(folder, &manifest.parse().unwrap(), workspace_dependencies);
        assert!(faults.iter().any(|fault| fault.contains(complaint)), "{folder} with {manifest:?} gave {faults:?}");
    }
}

/// The words of an identifier, lower case: `PlaceOrder` and `place_order` are both `place`, `order`.
fn words(identifier: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let mut previous_is_lower = false;
    for letter in identifier.chars() {
        if letter == '_' {
            words.push(String::new());
        } else {
            if words.is_empty() || (letter.is_uppercase() && previous_is_lower) {
                words.push(String::new());
            }
            words.last_mut().unwrap().extend(letter.to_lowercase());
        }
        previous_is_lower = letter.is_lowercase();
    }
    words.retain(|word| !word.is_empty());
    words
}

/// The line without its comment: documentation may say what the runtime does not know.
fn code_of(line: &str) -> &str {
    line.find("//").map_or(line, |comment| &line[..comment])
}

fn commerce_in(line: &str) -> Option<String> {
    let is_part = |letter: char| letter.is_alphanumeric() || letter == '_';
    code_of(line).split(|letter| !is_part(letter)).find_map(|identifier| {
        let words = words(identifier);
        let word = words.iter().any(|word| COMMERCE_WORDS.contains(&word.as_str()));
        let pair = words.windows(2).any(|pair| COMMERCE_PAIRS.contains(&(pair[0].as_str(), pair[1].as_str())));
        (word || pair).then(|| identifier.to_owned())
    })
}

fn sources_below(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources_below(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn the_runtime_knows_no_word_of_the_shop() {
    let mut sources = Vec::new();
    sources_below(&house().join("actors/runtime/src"), &mut sources);
    assert!(!sources.is_empty(), "the runtime has no sources");
    let mut faults = Vec::new();
    for source in sources {
        let text = fs::read_to_string(&source).unwrap();
        for (number, line) in text.lines().enumerate() {
            if let Some(identifier) = commerce_in(line) {
                faults.push(format!("{}:{}: {identifier}", source.display(), number + 1));
            }
        }
    }
    assert!(faults.is_empty(), "the runtime speaks of the shop:\n{}", faults.join("\n"));
}

#[test]
fn the_word_finder_sees_identifiers_and_leaves_order_in_time_alone() {
    for guilty in [
        "struct PlaceOrder;",
        "let order_id = 1;",
        "fn charge(payment: u8)",
        "\"cart\"",
        "HttpServer",
        "use rdkafka::x;",
    ] {
        assert!(commerce_in(guilty).is_some(), "{guilty} was not seen");
    }
    for innocent in
        ["Ordering::SeqCst", "commit_order", "in_order", "// a payment", "microcommerce_runtime", "report", "Priced"]
    {
        assert_eq!(commerce_in(innocent), None, "{innocent}");
    }
}
