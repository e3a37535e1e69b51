//! Which settings change nothing: those of another role, those whose bus is not used. A setting that is ignored in silence is
//! one that somebody relies on. What an administrator's settings do depends on the data; [`crate::people`] says it.

use contracts::Service;

use super::Role;

/// The settings of Kafka's client.
const OF_KAFKA: [&str; 11] = [
    "KAFKA_TOPIC_PREFIX",
    "KAFKA_SECURITY_PROTOCOL",
    "KAFKA_CA_FILE",
    "KAFKA_CERTIFICATE_FILE",
    "KAFKA_KEY_FILE",
    "KAFKA_SASL_MECHANISM",
    "KAFKA_SASL_USERNAME",
    "KAFKA_SASL_PASSWORD",
    "KAFKA_SASL_PASSWORD_FILE",
    "KAFKA_COMPRESSION",
    "ADVERTISED_HOST",
];

/// A sentence for every setting that is there and changes nothing in a process of this role.
pub(super) fn sentences(role: Role, is_demo: bool, is_set: impl Fn(&str) -> bool) -> Vec<String> {
    let mut sentences = Vec::new();
    let mut note = |name: &str, why: &str| sentences.push(format!("{name} has no effect: {why}"));
    for (argument, of, name) in Role::NAMED.iter().filter(|(_, _, name)| *name != "PORT") {
        match (role == *of, role == Role::All) {
            _ if !is_set(name) => {}
            (_, true) => {}
            (true, _) if is_set("PORT") => note(name, "PORT is set, which is this role's port"),
            (true, _) => {}
            (false, _) => note(name, &format!("this process does not run the {argument} service")),
        }
    }
    let runs_users = role.services().contains(&Service::User);
    for name in ["ADMIN_EMAIL", "ADMIN_PASSWORD"] {
        if is_set(name) && !runs_users {
            note(name, "the administrators are the user service's, which this process does not run");
        }
    }
    if is_set("RATE_LIMIT_PROFILE") && !role.has_gateway() {
        note("RATE_LIMIT_PROFILE", "the gateway limits for all processes, and this one does not run it");
    }
    if !is_set("KAFKA_BROKER") {
        for name in OF_KAFKA.into_iter().filter(|name| is_set(name)) {
            note(name, "KAFKA_BROKER is not set, so Kafka is not used");
        }
    }
    if is_demo && !runs_users && !role.services().contains(&Service::Product) {
        note("--demo", "the demo's catalogue and buyer are the product and the user service's");
    }
    sentences
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(role: Role, set: &[&str]) -> Vec<String> {
        let sentences = sentences(role, false, |name| set.contains(&name));
        let name = |sentence: &String| sentence.split(' ').next().unwrap_or_default().to_owned();
        sentences.iter().map(name).collect()
    }

    #[test]
    fn a_setting_that_changes_nothing_says_so_and_no_other_does() {
        let ports = ["PORT", "PAYMENT_PORT", "PRODUCT_PORT", "USER_PORT", "ORDER_PORT"];
        let admin = ["ADMIN_EMAIL", "ADMIN_PASSWORD", "RATE_LIMIT_PROFILE"];
        assert_eq!(of(Role::All, &[ports.as_slice(), &admin].concat()), [""; 0]);
        assert_eq!(
            of(Role::All, &["KAFKA_TOPIC_PREFIX", "ADVERTISED_HOST"]),
            ["KAFKA_TOPIC_PREFIX", "ADVERTISED_HOST"]
        );
        assert_eq!(of(Role::All, &["KAFKA_BROKER", "KAFKA_TOPIC_PREFIX", "ADVERTISED_HOST"]), [""; 0]);
        let order = Role::Service(Service::Order);
        assert_eq!(of(order, &["KAFKA_BROKER", "ORDER_PORT"]), [""; 0]);
        assert_eq!(of(order, &["KAFKA_BROKER", "ORDER_PORT", "PORT", "USER_PORT"]), ["USER_PORT", "ORDER_PORT"]);
        let user = Role::Service(Service::User);
        assert_eq!(of(user, &["KAFKA_BROKER", "ADMIN_EMAIL", "ADMIN_PASSWORD"]), [""; 0]);
        assert_eq!(of(user, &["KAFKA_BROKER", "RATE_LIMIT_PROFILE"]), ["RATE_LIMIT_PROFILE"]);
        assert_eq!(
            of(Role::Gateway, &["KAFKA_BROKER", "ADMIN_PASSWORD", "RATE_LIMIT_PROFILE", "PORT", "ORDER_PORT"]),
            ["ORDER_PORT", "ADMIN_PASSWORD"]
        );
        assert_eq!(sentences(Role::Gateway, true, |name| name == "KAFKA_BROKER").len(), 1);
        assert!(sentences(user, true, |name| name == "KAFKA_BROKER").is_empty());
    }
}
