//! The settings: where they come from, what they mean, what is wrong with them.

use std::{fmt::Write, net::IpAddr, path::PathBuf};

use bridge::kafka::{Compression, settings::UnknownCompression};
use clap::Parser;
use contracts::Service;
use http_edge::rate_limit::Profile;
use order_service::Terms;

use crate::tools::Command;

mod without_effect;

/// The command line. Settings come from the environment.
#[derive(Debug, Parser)]
#[command(version, about = "A commerce back end in one binary.", after_help = settings_help())]
pub struct Arguments {
    /// Run one role in this process instead of all: gateway, payment, product, user or order. It needs Kafka
    #[arg(long, value_name = "NAME")]
    pub role: Option<String>,
    /// What to do instead of opening the shop.
    #[command(subcommand)]
    pub command: Option<Command>,

    /// Fill the shop with a small catalogue and the test user test@example.com / testPassword123
    #[arg(long)]
    pub demo: bool,
}

/// A setting that makes no sense, in one sentence.
#[derive(Debug, thiserror::Error)]
#[error("{name}={value} makes no sense: {reason}")]
pub struct SettingError {
    name: &'static str,
    value: String,
    reason: String,
}

/// What a process runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The whole shop.
    All,
    /// The gateway alone; the services are other processes.
    Gateway,
    /// One service alone.
    Service(Service),
}

impl Role {
    /// The roles that can be named, and the settings of their ports where one process has all of them.
    const NAMED: [(&str, Self, &str); 5] = [
        ("gateway", Self::Gateway, "PORT"),
        ("payment", Self::Service(Service::Payment), "PAYMENT_PORT"),
        ("product", Self::Service(Service::Product), "PRODUCT_PORT"),
        ("user", Self::Service(Service::User), "USER_PORT"),
        ("order", Self::Service(Service::Order), "ORDER_PORT"),
    ];

    /// Whether it runs the gateway.
    pub fn has_gateway(self) -> bool {
        matches!(self, Self::All | Self::Gateway)
    }

    /// The services that it runs.
    pub fn services(self) -> Vec<Service> {
        match self {
            Self::All => Service::ALL.to_vec(),
            Self::Gateway => Vec::new(),
            Self::Service(service) => vec![service],
        }
    }

    /// What it calls itself among the processes of a house.
    pub fn name(self) -> &'static str {
        match self {
            Self::All => "microcommerce",
            Self::Gateway => "api-gateway",
            Self::Service(service) => service.name(),
        }
    }
}

/// A port and the setting that moves it.
#[derive(Clone, Copy, Debug)]
pub struct PortSetting {
    /// Such as `ORDER_PORT`.
    pub name: &'static str,
    /// The port.
    pub port: u16,
}

/// What the shop is run with.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The address that it listens on.
    pub host: IpAddr,
    /// What this process runs.
    pub role: Role,
    /// The gateway's port, where it runs here.
    pub gateway: Option<PortSetting>,
    /// The ports of the services that run here.
    pub services: Vec<(Service, PortSetting)>,
    /// The host under which the other processes of the house reach this one.
    pub advertised_host: String,
    /// The house's secret, where it is not kept in the data directory.
    pub secret_key: Option<String>,
    /// Where everything durable is.
    pub data_dir: PathBuf,
    /// Where Kafka is, if it is used.
    pub kafka_broker: Option<String>,
    /// Before the names of all topics and groups, for several shops on one cluster.
    pub topic_prefix: String,
    /// How what is written to Kafka is compressed.
    pub kafka_compression: Compression,
    /// The administrator's e-mail address, if it is set.
    pub admin_email: Option<String>,
    /// The administrator's first password, if it is set.
    pub admin_password: Option<String>,
    /// Which rate limits hold.
    pub rate_limits: Profile,
    /// How long stock is held for an unpaid order, and for one that is being paid.
    pub terms: Terms,
    /// Whether drills are possible over HTTP.
    pub has_chaos: bool,
    /// Whether the demo's catalogue and buyer are put in.
    pub is_demo: bool,
    /// What was set and changes nothing in this process, a sentence each.
    pub without_effect: Vec<String>,
}

/// Longest prefix of topics: Kafka allows 249 characters in all.
const TOPIC_PREFIX_LEN_MAX: usize = 100;
/// Longest time that stock is held for somebody, in seconds: a week.
const HELD_SECONDS_MAX: i64 = 7 * 24 * 60 * 60;
/// Shortest secret that is taken: what can be guessed is none.
const SECRET_KEY_LEN_MIN: usize = 32;

/// Every setting: its name, its default, its meaning.
const SETTINGS: [(&str, &str, &str); 19] = [
    ("PORT", "8080", "the gateway's port; with --role that role's own, which is the default below"),
    ("PAYMENT_PORT", "8081", "the payment service's port"),
    ("PRODUCT_PORT", "8082", "the product service's port"),
    ("USER_PORT", "8083", "the user service's port"),
    ("ORDER_PORT", "8084", "the order service's port"),
    ("HOST", "127.0.0.1", "the address to listen on; 0.0.0.0 for all"),
    ("ADVERTISED_HOST", "", "where the roles of other machines reach this one; HOST if unset"),
    ("DATA_DIR", "data", "the directory of everything durable"),
    ("KAFKA_BROKER", "", "host:port of Kafka; without it the bus is embedded"),
    ("KAFKA_TOPIC_PREFIX", "", "before the names of all topics and groups, for several shops on one cluster"),
    ("KAFKA_COMPRESSION", "none", "how records are written to Kafka: none, gzip, snappy, lz4 or zstd; all are read"),
    ("SECRET_KEY", "", "the house's secret, 32 characters or more; kept in DATA_DIR/secret.key if unset"),
    (
        "ADMIN_EMAIL",
        "",
        "the first administrator's e-mail address, made while there is none; made up and printed if unset",
    ),
    ("ADMIN_PASSWORD", "", "the first administrator's password; generated and printed once if unset"),
    ("RATE_LIMIT_PROFILE", "default", "default, original, or off (also: bench)"),
    ("ORDER_PAYABLE_SECONDS", "900", "how long an unpaid order holds its stock"),
    (
        "PAYMENT_WINDOW_SECONDS",
        "600",
        "how long a payment that has begun may take; the same for the order and the payment service",
    ),
    ("DEV_CHAOS", "", "1 makes drills possible over HTTP; never in production"),
    ("RUST_LOG", "info", "what is logged, such as info or order_service=debug"),
];

fn settings_help() -> String {
    let mut help = "Settings (environment variables):\n".to_owned();
    for (name, default, meaning) in SETTINGS {
        let default = if default.is_empty() { String::new() } else { format!(" [{default}]") };
        // Writing to a String cannot fail.
        let _ = writeln!(help, "  {name:<22} {meaning}{default}");
    }
    help
}

/// clap's message as one sentence.
pub fn one_sentence(error: &clap::Error) -> String {
    let text = error.to_string();
    let first = text.lines().next().unwrap_or_default().trim_start_matches("error: ");
    format!("{first}; --help lists what there is")
}

impl Settings {
    /// Reads the settings from `environment`.
    ///
    /// # Errors
    /// [`SettingError`] for the first that makes no sense.
    pub fn read(arguments: &Arguments, environment: impl Fn(&str) -> Option<String>) -> Result<Self, SettingError> {
        let value_of = |name: &'static str| {
            let default = SETTINGS.iter().find(|(known, ..)| *known == name).map_or("", |(_, default, _)| *default);
            environment(name).filter(|value| !value.is_empty()).unwrap_or_else(|| default.to_owned())
        };
        let optional = |name| Some(value_of(name)).filter(|value| !value.is_empty());
        let wrong = |name, reason: &str| SettingError { name, value: value_of(name), reason: reason.to_owned() };
        let port = |name| match value_of(name).parse::<u16>() {
            Ok(port) if port > 0 => Ok(PortSetting { name, port }),
            _ => Err(wrong(name, "a port is a number from 1 to 65535")),
        };
        let seconds = |name| match value_of(name).parse::<i64>() {
            Ok(seconds) if (1..=HELD_SECONDS_MAX).contains(&seconds) => Ok(seconds),
            _ => Err(wrong(name, "it is a number of seconds, from 1 to a week")),
        };
        let role = match arguments.role.as_deref() {
            None => Role::All,
            Some(name) => {
                let named = Role::NAMED.iter().find(|(known, ..)| *known == name).map(|(_, role, _)| *role);
                named.ok_or_else(|| SettingError {
                    name: "--role",
                    value: name.to_owned(),
                    reason: "it is gateway, payment, product, user or order".to_owned(),
                })?
            }
        };
        // A role's own port is PORT; unset, it is the role's port in a process of all roles.
        let port_of = |of: Role, name: &'static str| {
            let is_alone = role == of && environment("PORT").is_some_and(|value| !value.is_empty());
            port(if is_alone { "PORT" } else { name })
        };
        let mut gateway = None;
        let mut services = Vec::new();
        for (_, of, name) in Role::NAMED {
            match of {
                Role::Service(service) if role.services().contains(&service) => {
                    services.push((service, port_of(of, name)?));
                }
                Role::Gateway if role.has_gateway() => gateway = Some(port_of(of, name)?),
                _ => {}
            }
        }
        let host: IpAddr =
            value_of("HOST").parse().map_err(|_| wrong("HOST", "an address is written like 127.0.0.1"))?;
        let settings = Self {
            role,
            gateway,
            services,
            host,
            advertised_host: optional("ADVERTISED_HOST").unwrap_or_else(|| match host {
                IpAddr::V6(address) => format!("[{address}]"),
                IpAddr::V4(address) => address.to_string(),
            }),
            secret_key: optional("SECRET_KEY"),
            data_dir: PathBuf::from(value_of("DATA_DIR")),
            kafka_broker: optional("KAFKA_BROKER"),
            topic_prefix: value_of("KAFKA_TOPIC_PREFIX"),
            kafka_compression: value_of("KAFKA_COMPRESSION")
                .parse()
                .map_err(|unknown: UnknownCompression| wrong("KAFKA_COMPRESSION", &unknown.to_string()))?,
            admin_email: optional("ADMIN_EMAIL"),
            admin_password: optional("ADMIN_PASSWORD"),
            rate_limits: value_of("RATE_LIMIT_PROFILE")
                .parse()
                .map_err(|_| wrong("RATE_LIMIT_PROFILE", "it is default, original, off or bench"))?,
            terms: Terms {
                payable_for_ms: seconds("ORDER_PAYABLE_SECONDS")? * 1_000,
                payment_window_ms: seconds("PAYMENT_WINDOW_SECONDS")? * 1_000,
            },
            has_chaos: match value_of("DEV_CHAOS").as_str() {
                "" | "0" => false,
                "1" => true,
                _ => return Err(wrong("DEV_CHAOS", "it is 0 or 1")),
            },
            is_demo: arguments.demo,
            without_effect: without_effect::sentences(role, arguments.demo, |name| {
                environment(name).is_some_and(|value| !value.is_empty())
            }),
        };
        settings.refuse_shared_ports()?;
        if let Some(broker) = &settings.kafka_broker
            && !broker.split(',').all(is_host_and_port)
        {
            return Err(wrong("KAFKA_BROKER", "a broker is written as host:port, several with commas"));
        }
        let is_topic_letter = |letter: char| letter.is_ascii_alphanumeric() || "._-".contains(letter);
        if settings.topic_prefix.len() > TOPIC_PREFIX_LEN_MAX || !settings.topic_prefix.chars().all(is_topic_letter) {
            return Err(wrong("KAFKA_TOPIC_PREFIX", "it is at most 100 letters, digits, dots, dashes and underscores"));
        }
        if role != Role::All && settings.kafka_broker.is_none() {
            return Err(wrong("KAFKA_BROKER", "a process of one role finds the others through Kafka; say where it is"));
        }
        if role != Role::All && host.is_unspecified() && optional("ADVERTISED_HOST").is_none() {
            return Err(wrong("ADVERTISED_HOST", "with this HOST nobody knows where the others reach this process"));
        }
        if settings.secret_key.as_ref().is_some_and(|key| key.len() < SECRET_KEY_LEN_MIN) {
            let reason = format!("it has at least {SECRET_KEY_LEN_MIN} characters");
            return Err(SettingError { name: "SECRET_KEY", value: "…".to_owned(), reason });
        }
        Ok(settings)
    }

    /// Where the house's secret is kept.
    pub fn secret_file(&self) -> PathBuf {
        self.data_dir.join("secret.key")
    }

    /// Where the other processes of the house reach a service of this one.
    pub fn address_of(&self, service: Service) -> Option<String> {
        let (_, setting) = self.services.iter().find(|(here, _)| *here == service)?;
        Some(format!("http://{}:{}", self.advertised_host, setting.port))
    }

    fn refuse_shared_ports(&self) -> Result<(), SettingError> {
        let mut seen: Vec<PortSetting> = self.gateway.into_iter().collect();
        for (_, setting) in &self.services {
            if let Some(other) = seen.iter().find(|other| other.port == setting.port) {
                let reason = format!("{} is on the same port; every role needs one of its own", other.name);
                return Err(SettingError { name: setting.name, value: setting.port.to_string(), reason });
            }
            seen.push(*setting);
        }
        Ok(())
    }

    /// What is said when the shop is open.
    pub fn greeting(&self) -> String {
        let bus = self.kafka_broker.as_deref().map_or("embedded bus".to_owned(), |broker| format!("Kafka at {broker}"));
        let (host, place) = (self.host, format!("(data in {}, {bus})", self.data_dir.display()));
        let Some(PortSetting { port, .. }) = self.gateway else {
            let port = self.services.first().map_or(0, |(_, setting)| setting.port);
            return format!("{} answers on http://{host}:{port}  {place}\nCtrl-C ends it.", self.role.name());
        };
        let mut text = format!("The shop is open: http://{host}:{port}  {place}");
        if self.is_demo {
            let _ = write!(
                text,
                "\n  curl http://{host}:{port}/api/v1/products\n  curl -X POST http://{host}:{port}/api/v1/users/login \
                 -H 'Content-Type: application/json' -d '{{\"email\":\"test@example.com\",\"password\":\"testPassword123\"}}'"
            );
        }
        text.push_str("\nCtrl-C closes it.");
        text
    }
}

fn is_host_and_port(broker: &str) -> bool {
    broker.trim().rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Result<Settings, String> {
        read_as(None, pairs)
    }

    fn read_as(role: Option<&str>, pairs: &[(&str, &str)]) -> Result<Settings, String> {
        let find = |name: &str| pairs.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
        Settings::read(&Arguments { demo: false, role: role.map(str::to_owned), command: None }, find)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn the_defaults_are_a_working_shop() {
        let settings = read(&[]).unwrap();
        assert_eq!(settings.gateway.unwrap().port, 8080);
        assert_eq!(settings.services.iter().map(|(_, port)| port.port).collect::<Vec<_>>(), [8081, 8082, 8083, 8084]);
        assert!(settings.kafka_broker.is_none() && !settings.has_chaos);
    }

    #[test]
    fn a_wrong_setting_is_refused_in_one_sentence_that_names_it() {
        for (name, value) in [
            ("PORT", "abc"),
            ("ORDER_PORT", "0"),
            ("USER_PORT", "70000"),
            ("HOST", "nowhere"),
            ("KAFKA_BROKER", "localhost"),
            ("RATE_LIMIT_PROFILE", "sometimes"),
            ("KAFKA_COMPRESSION", "zip"),
            ("DEV_CHAOS", "yes"),
            ("ORDER_PORT", "8080"),
        ] {
            let error = read(&[(name, value)]).unwrap_err();
            assert!(error.contains(name) && error.contains(value) && error.lines().count() == 1, "{error}");
        }
    }

    #[test]
    fn the_profile_of_benches_is_off() {
        assert_eq!(read(&[("RATE_LIMIT_PROFILE", "bench")]).unwrap().rate_limits, Profile::Off);
    }

    #[test]
    fn a_role_listens_on_its_own_port_and_needs_kafka() {
        let broker = ("KAFKA_BROKER", "localhost:9092");
        let order = read_as(Some("order"), &[broker]).unwrap();
        assert!(order.gateway.is_none());
        assert_eq!(
            order.services.iter().map(|(service, port)| (*service, port.port)).collect::<Vec<_>>(),
            [(Service::Order, 8084)]
        );
        assert_eq!(order.address_of(Service::Order).as_deref(), Some("http://127.0.0.1:8084"));
        let moved = read_as(Some("order"), &[broker, ("PORT", "9000"), ("ADVERTISED_HOST", "orders")]).unwrap();
        assert_eq!(moved.address_of(Service::Order).as_deref(), Some("http://orders:9000"));
        assert_eq!(read_as(Some("gateway"), &[broker, ("PORT", "9000")]).unwrap().gateway.unwrap().port, 9000);
        for (role, pairs) in [
            ("order", &[][..]),
            ("cook", &[broker][..]),
            ("order", &[broker, ("HOST", "0.0.0.0")][..]),
            ("order", &[broker, ("SECRET_KEY", "short")][..]),
        ] {
            let error = read_as(Some(role), pairs).unwrap_err();
            assert_eq!(error.lines().count(), 1, "{error}");
        }
    }
}
