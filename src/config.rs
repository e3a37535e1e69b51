//! The settings: where they come from, what they mean, what is wrong with them.

use std::{fmt::Write, net::IpAddr, path::PathBuf};

use clap::Parser;
use contracts::Service;
use http_edge::rate_limit::Profile;

/// The command line. Settings come from the environment.
#[derive(Debug, Parser)]
#[command(version, about = "A commerce back end in one binary.", after_help = settings_help())]
pub struct Arguments {
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
    /// The gateway's port.
    pub gateway: PortSetting,
    /// The services' ports.
    pub services: Vec<(Service, PortSetting)>,
    /// Where everything durable is.
    pub data_dir: PathBuf,
    /// Where Kafka is, if it is used.
    pub kafka_broker: Option<String>,
    /// The administrator's e-mail address, if it is set.
    pub admin_email: Option<String>,
    /// The administrator's first password, if it is set.
    pub admin_password: Option<String>,
    /// Which rate limits hold.
    pub rate_limits: Profile,
    /// Whether drills are possible over HTTP.
    pub has_chaos: bool,
    /// Whether the demo's catalogue and buyer are put in.
    pub is_demo: bool,
}

/// Every setting: its name, its default, its meaning.
const SETTINGS: [(&str, &str, &str); 13] = [
    ("PORT", "8080", "the gateway's port"),
    ("PAYMENT_PORT", "8081", "the payment service's port"),
    ("PRODUCT_PORT", "8082", "the product service's port"),
    ("USER_PORT", "8083", "the user service's port"),
    ("ORDER_PORT", "8084", "the order service's port"),
    ("HOST", "127.0.0.1", "the address to listen on; 0.0.0.0 for all"),
    ("DATA_DIR", "data", "the directory of everything durable"),
    ("KAFKA_BROKER", "", "host:port of Kafka; without it the bus is embedded"),
    ("ADMIN_EMAIL", "", "the administrator's e-mail address"),
    ("ADMIN_PASSWORD", "", "the administrator's first password; generated and printed once if unset"),
    ("RATE_LIMIT_PROFILE", "default", "default, original or off"),
    ("DEV_CHAOS", "", "1 makes drills possible over HTTP; never in production"),
    ("RUST_LOG", "info", "what is logged, such as info or order_service=debug"),
];

fn settings_help() -> String {
    let mut help = "Settings (environment variables):\n".to_owned();
    for (name, default, meaning) in SETTINGS {
        let default = if default.is_empty() { String::new() } else { format!(" [{default}]") };
        // Writing to a String cannot fail.
        let _ = writeln!(help, "  {name:<19} {meaning}{default}");
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
        let settings = Self {
            host: value_of("HOST").parse().map_err(|_| wrong("HOST", "an address is written like 127.0.0.1"))?,
            gateway: port("PORT")?,
            services: vec![
                (Service::Payment, port("PAYMENT_PORT")?),
                (Service::Product, port("PRODUCT_PORT")?),
                (Service::User, port("USER_PORT")?),
                (Service::Order, port("ORDER_PORT")?),
            ],
            data_dir: PathBuf::from(value_of("DATA_DIR")),
            kafka_broker: optional("KAFKA_BROKER"),
            admin_email: optional("ADMIN_EMAIL"),
            admin_password: optional("ADMIN_PASSWORD"),
            rate_limits: value_of("RATE_LIMIT_PROFILE")
                .parse()
                .map_err(|_| wrong("RATE_LIMIT_PROFILE", "it is default, original or off"))?,
            has_chaos: match value_of("DEV_CHAOS").as_str() {
                "" | "0" => false,
                "1" => true,
                _ => return Err(wrong("DEV_CHAOS", "it is 0 or 1")),
            },
            is_demo: arguments.demo,
        };
        settings.refuse_shared_ports()?;
        if let Some(broker) = &settings.kafka_broker
            && !broker.split(',').all(is_host_and_port)
        {
            return Err(wrong("KAFKA_BROKER", "a broker is written as host:port, several with commas"));
        }
        Ok(settings)
    }

    fn refuse_shared_ports(&self) -> Result<(), SettingError> {
        let mut seen = vec![self.gateway];
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
        let Self { host, gateway: PortSetting { port, .. }, .. } = self;
        let bus = self.kafka_broker.as_deref().map_or("embedded bus".to_owned(), |broker| format!("Kafka at {broker}"));
        let mut text = format!("The shop is open: http://{host}:{port}  (data in {}, {bus})", self.data_dir.display());
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
        let find = |name: &str| pairs.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
        Settings::read(&Arguments { demo: false }, find).map_err(|error| error.to_string())
    }

    #[test]
    fn the_defaults_are_a_working_shop() {
        let settings = read(&[]).unwrap();
        assert_eq!(settings.gateway.port, 8080);
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
            ("DEV_CHAOS", "yes"),
            ("ORDER_PORT", "8080"),
        ] {
            let error = read(&[(name, value)]).unwrap_err();
            assert!(error.contains(name) && error.contains(value) && error.lines().count() == 1, "{error}");
        }
    }
}
