//! Where Kafka is, who we say we are, and how we prove it: what every client of this crate has in common.
//!
//! It owns the settings only. The ones that differ from librdkafka's defaults stand here with their reasons; what only a
//! consumer or a producer needs stands beside it.

use std::{env, fmt, fs, io, str::FromStr};

use rdkafka::{
    client::ClientContext,
    config::{ClientConfig, RDKafkaLogLevel},
    error::{KafkaError, RDKafkaErrorCode},
};

/// Longest pause between two attempts to connect; the default of 10 s would show a broker's return late.
const RECONNECT_MS_MAX: &str = "500";

/// Why settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// An environment variable holds what cannot be understood.
    #[error("{name} {problem}")]
    Variable {
        /// Its name.
        name: &'static str,
        /// What is wrong.
        problem: String,
    },
    /// Encryption is asked of a build that has none.
    #[error(
        "{0} needs a build with encryption: cargo build --features kafka-tls (it needs OpenSSL's development files)"
    )]
    WithoutTls(&'static str),
    /// The client does not accept them.
    #[error("the Kafka client does not accept its settings: {0}")]
    Refused(#[from] KafkaError),
    /// There is no thread for the client.
    #[error("no thread for the Kafka client: {0}")]
    Thread(#[from] io::Error),
}

/// How what we write is compressed. Every one of them can be read by this build, whoever wrote it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compression {
    /// Not at all, the default: every client in every language reads it without further packages, as it does [`Gzip`](Self::Gzip); of the
    /// two it costs the shop's processor nothing. A broker can compress a topic by itself (`compression.type`).
    #[default]
    None,
    /// Small, and read by everybody; slow to make.
    Gzip,
    /// Quick; many clients need a package for it.
    Snappy,
    /// Quick; many clients need a package for it.
    Lz4,
    /// Small and quick; many clients need a package for it.
    Zstd,
}

impl Compression {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::None, Self::Gzip, Self::Snappy, Self::Lz4, Self::Zstd];

    /// Its name in settings.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Snappy => "snappy",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }
}

/// It is none of those that there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is none, gzip, snappy, lz4 or zstd")]
pub struct UnknownCompression;

impl FromStr for Compression {
    type Err = UnknownCompression;

    fn from_str(name: &str) -> Result<Self, UnknownCompression> {
        Self::ALL.into_iter().find(|known| known.name() == name).ok_or(UnknownCompression)
    }
}

/// Where Kafka is and who we say we are.
#[derive(Clone, Debug, Default)]
pub struct KafkaClientSettings {
    /// `host:port`, or several with commas.
    pub brokers: String,
    /// The `client.id` that the broker's logs and quotas show.
    pub client_id: String,
    /// How the connection is protected.
    pub security: Security,
}

/// How the connection is protected.
#[derive(Clone, Debug, Default)]
pub struct Security {
    /// Encryption; without the feature `kafka-tls` there is none.
    pub tls: Option<Tls>,
    /// Who we are.
    pub sasl: Option<Sasl>,
}

/// Encryption.
#[derive(Clone, Debug, Default)]
pub struct Tls {
    /// File with the certificates that vouch for the broker; the system's own where nothing is said.
    pub ca_file: Option<String>,
    /// Files with our certificate and its key, where the broker asks for one.
    pub certificate_and_key_files: Option<(String, String)>,
}

/// A name and a secret.
#[derive(Clone)]
pub struct Sasl {
    /// `PLAIN`, `SCRAM-SHA-256` or `SCRAM-SHA-512`; the last two need the feature `kafka-tls`.
    pub mechanism: String,
    /// The name.
    pub username: String,
    /// The secret. It is never shown.
    pub password: String,
}

impl fmt::Debug for Sasl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sasl({} as {})", self.mechanism, self.username)
    }
}

impl KafkaClientSettings {
    /// Brokers without protection.
    #[must_use]
    pub fn plain(brokers: impl Into<String>, client_id: impl Into<String>) -> Self {
        Self { brokers: brokers.into(), client_id: client_id.into(), security: Security::default() }
    }

    /// What the environment says; nothing where `KAFKA_BROKER` is absent or empty.
    ///
    /// | variable | meaning |
    /// |---|---|
    /// | `KAFKA_BROKER` | `host:port`, or several with commas |
    /// | `KAFKA_SECURITY_PROTOCOL` | `plaintext` (default), `ssl`, `sasl_plaintext`, `sasl_ssl` |
    /// | `KAFKA_CA_FILE` | certificates that vouch for the broker (PEM); the system's own where absent |
    /// | `KAFKA_CERTIFICATE_FILE`, `KAFKA_KEY_FILE` | our certificate and its key (PEM) |
    /// | `KAFKA_SASL_MECHANISM` | `PLAIN` (default), `SCRAM-SHA-256`, `SCRAM-SHA-512` |
    /// | `KAFKA_SASL_USERNAME` | our name |
    /// | `KAFKA_SASL_PASSWORD`, or `KAFKA_SASL_PASSWORD_FILE` | our secret, or the file that holds it |
    ///
    /// # Errors
    /// [`SettingsError::Variable`] for words that mean nothing here, [`SettingsError::WithoutTls`] where this build cannot.
    pub fn from_env(client_id: impl Into<String>) -> Result<Option<Self>, SettingsError> {
        Self::from_variables(client_id, |name| env::var(name).ok())
    }

    fn from_variables(
        client_id: impl Into<String>,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Option<Self>, SettingsError> {
        let variable = |name| variable(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty());
        let Some(brokers) = variable("KAFKA_BROKER") else { return Ok(None) };
        let protocol = variable("KAFKA_SECURITY_PROTOCOL").map_or_else(|| "plaintext".to_owned(), |p| p.to_lowercase());
        let (with_tls, with_sasl) = match protocol.as_str() {
            "plaintext" => (false, false),
            "ssl" => (true, false),
            "sasl_plaintext" => (false, true),
            "sasl_ssl" => (true, true),
            other => {
                let problem = format!("is '{other}', not plaintext, ssl, sasl_plaintext or sasl_ssl");
                return Err(SettingsError::Variable { name: "KAFKA_SECURITY_PROTOCOL", problem });
            }
        };
        let tls = with_tls.then(|| Tls {
            ca_file: variable("KAFKA_CA_FILE"),
            certificate_and_key_files: variable("KAFKA_CERTIFICATE_FILE").zip(variable("KAFKA_KEY_FILE")),
        });
        let needed = |name: &'static str| {
            variable(name).ok_or(SettingsError::Variable { name, problem: "is missing".to_owned() })
        };
        let sasl = match with_sasl {
            false => None,
            true => Some(Sasl {
                mechanism: variable("KAFKA_SASL_MECHANISM").unwrap_or_else(|| "PLAIN".to_owned()),
                username: needed("KAFKA_SASL_USERNAME")?,
                password: match variable("KAFKA_SASL_PASSWORD_FILE") {
                    None => needed("KAFKA_SASL_PASSWORD")?,
                    Some(file) => {
                        fs::read_to_string(&file).map(|secret| secret.trim_end().to_owned()).map_err(|error| {
                            SettingsError::Variable {
                                name: "KAFKA_SASL_PASSWORD_FILE",
                                problem: format!("names {file}, which cannot be read: {error}"),
                            }
                        })?
                    }
                },
            }),
        };
        let settings = Self { brokers, client_id: client_id.into(), security: Security { tls, sasl } };
        settings.security.check()?;
        Ok(Some(settings))
    }

    /// The client's settings, without those of its role.
    ///
    /// # Errors
    /// [`SettingsError::WithoutTls`] where this build cannot do what they ask for.
    pub(crate) fn client_config(&self) -> Result<ClientConfig, SettingsError> {
        self.security.check()?;
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", &self.brokers)
            .set("client.id", &self.client_id)
            .set("socket.nagle.disable", "true")
            .set("socket.keepalive.enable", "true")
            .set("reconnect.backoff.ms", "50")
            .set("reconnect.backoff.max.ms", RECONNECT_MS_MAX);
        self.security.apply(&mut config);
        Ok(config)
    }
}

impl Security {
    fn check(&self) -> Result<(), SettingsError> {
        let scram = self.sasl.as_ref().is_some_and(|sasl| sasl.mechanism.to_uppercase().starts_with("SCRAM"));
        match cfg!(feature = "kafka-tls") {
            true => Ok(()),
            false if self.tls.is_some() => Err(SettingsError::WithoutTls("TLS")),
            false if scram => Err(SettingsError::WithoutTls("SCRAM")),
            false => Ok(()),
        }
    }

    fn apply(&self, config: &mut ClientConfig) {
        let protocol = match (&self.tls, &self.sasl) {
            // The client's own default: said by nobody, so that whatever else is set stays.
            (None, None) => return,
            (Some(_), None) => "ssl",
            (None, Some(_)) => "sasl_plaintext",
            (Some(_), Some(_)) => "sasl_ssl",
        };
        config.set("security.protocol", protocol);
        if let Some(tls) = &self.tls {
            if let Some(file) = &tls.ca_file {
                config.set("ssl.ca.location", file);
            }
            if let Some((certificate, key)) = &tls.certificate_and_key_files {
                config.set("ssl.certificate.location", certificate).set("ssl.key.location", key);
            }
        }
        if let Some(sasl) = &self.sasl {
            config
                .set("sasl.mechanism", &sasl.mechanism)
                .set("sasl.username", &sasl.username)
                .set("sasl.password", &sasl.password);
        }
    }
}

/// Hears librdkafka's words without repeating them: an absent broker would fill the log with them.
pub(crate) struct QuietContext;

impl ClientContext for QuietContext {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        whisper(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "kafka client error");
    }
}

impl rdkafka::consumer::ConsumerContext for QuietContext {}

/// librdkafka's words, for those who look for them.
pub(crate) fn whisper(level: RDKafkaLogLevel, facility: &str, message: &str) {
    tracing::debug!(target: "bridge::librdkafka", ?level, facility, message);
}

/// True for errors that say that no broker can be reached.
pub(super) fn is_unreachable(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode::{AllBrokersDown, Authentication, BrokerTransportFailure, Resolve, SSL};
    matches!(code, AllBrokersDown | Authentication | BrokerTransportFailure | Resolve | SSL)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(variables: &[(&str, &str)]) -> Result<Option<KafkaClientSettings>, SettingsError> {
        KafkaClientSettings::from_variables("test", |name| {
            variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn no_broker_means_no_kafka() {
        assert!(settings(&[]).unwrap().is_none());
        assert!(settings(&[("KAFKA_BROKER", " ")]).unwrap().is_none());
    }

    #[test]
    fn a_name_and_a_secret_reach_the_client_and_stay_out_of_its_words() {
        let settings = settings(&[
            ("KAFKA_BROKER", "a:1"),
            ("KAFKA_SECURITY_PROTOCOL", "SASL_PLAINTEXT"),
            ("KAFKA_SASL_USERNAME", "shop"),
            ("KAFKA_SASL_PASSWORD", "geheim"),
        ])
        .unwrap()
        .unwrap();
        let config = settings.client_config().unwrap();
        assert_eq!(config.get("security.protocol"), Some("sasl_plaintext"));
        assert_eq!(config.get("sasl.password"), Some("geheim"));
        assert!(!format!("{settings:?}").contains("geheim"));
    }

    #[test]
    fn what_cannot_be_meant_is_refused_by_name() {
        let refused = |protocol| {
            settings(&[("KAFKA_BROKER", "a:1"), ("KAFKA_SECURITY_PROTOCOL", protocol)]).unwrap_err().to_string()
        };
        assert!(refused("tls").contains("KAFKA_SECURITY_PROTOCOL is 'tls'"));
        assert!(refused("sasl_plaintext").contains("KAFKA_SASL_USERNAME is missing"));
    }

    #[test]
    fn encryption_without_the_feature_is_an_error_and_never_a_plain_connection() {
        let asked = settings(&[("KAFKA_BROKER", "a:1"), ("KAFKA_SECURITY_PROTOCOL", "ssl")]);
        match cfg!(feature = "kafka-tls") {
            true => assert_eq!(asked.unwrap().unwrap().client_config().unwrap().get("security.protocol"), Some("ssl")),
            false => assert!(matches!(asked, Err(SettingsError::WithoutTls("TLS")))),
        }
    }
}
