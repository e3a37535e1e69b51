//! `microcommerce recover`: what of the shop's data does not fit together, what would be lost or doubled, and the reconciliation.
//!
//! A shop that runs is asked over its port; of one that is stopped the data directory is opened, under its locks. The command finds
//! out which. Looking changes nothing. `--apply` needs a stopped shop: it gives the logs concerned a new incarnation, sets their
//! readers' positions to what is there, frees stock and gives back money that no order knows of, and leaves in each log that it touched
//! an event that says so, by `operator`. Run again, it does nothing twice.
//!
//! # Layout
//!
//! - [`logs`]: the logs, of this process or of a directory; [`findings`]: what does not fit; [`reconcile`]: what is done about it

mod findings;
mod logs;
mod reconcile;

use std::{
    io::{self, Write as _, stdout},
    time::Duration,
};

use anyhow::{anyhow, bail};
use bridge::{kafka::KafkaClientSettings, relay::provenance::compare_with_written};
use contracts::Service;
use http_edge::{
    internal::RECOVERY,
    peers::{HouseKey, ask_once},
};

use self::{
    findings::{Bus, Findings},
    logs::Logs,
};
use crate::{
    bus::{
        compared_outbox::says_otherwise,
        kafka::{RELAY, last_written},
    },
    config::Settings,
    house::House,
    secret::Secret,
};

/// How long a shop that runs may take to look through its data.
const PATIENCE: Duration = Duration::from_secs(60);
/// Said when there is nothing to be done.
const ALL_FITS: &str = "all of it fits together: there is nothing to reconcile";

/// Runs the command.
///
/// # Errors
/// What was wrong, in one sentence.
pub async fn run(settings: &Settings, is_to_apply: bool) -> anyhow::Result<()> {
    if let Some(lines) = ask(settings).await? {
        print(&lines)?;
        if is_to_apply {
            bail!("the shop runs: stop it, and run `microcommerce recover --apply` again");
        }
        return Ok(());
    }
    let logs = Logs::open(&settings.data_dir).await?;
    let found = match look(settings, &logs).await {
        Ok(found) => found,
        Err(error) => {
            logs.close().await;
            return Err(error);
        }
    };
    let printed = print(&found.lines());
    if printed.is_err() || !is_to_apply || found.is_empty() {
        logs.close().await;
        return Ok(printed?);
    }
    let done = reconcile::apply(settings, logs, found).await?;
    print(&done)?;
    Ok(())
}

/// Looks through the logs of a stopped shop, and on Kafka through what its topics have of them.
async fn look(settings: &Settings, logs: &Logs) -> anyhow::Result<Findings> {
    let Some(client) = KafkaClientSettings::from_env("microcommerce-recover")? else {
        return Findings::of(logs, Bus::Embedded).await;
    };
    for service in Service::ALL {
        let Some(log) = logs.of(service) else { continue };
        let written = last_written(&client, &settings.topic_prefix, service).await;
        let written = written.map_err(|reason| anyhow!("the topics cannot be compared with the logs: {reason}"))?;
        if let Err(contradiction) = compare_with_written(&written, &**log).await? {
            log.contradictions().raise(RELAY, says_otherwise(service, &contradiction));
        }
    }
    Findings::of(logs, Bus::Kafka).await
}

/// What a shop that runs says of the logs in its processes.
///
/// # Errors
/// In a sentence, when they cannot be read.
pub async fn report(house: &House) -> Result<Vec<String>, String> {
    let bus = if house.kafka.is_some() { Bus::Kafka } else { Bus::Embedded };
    let found = Findings::of(&Logs::of_house(house), bus).await;
    found.map(|found| found.lines()).map_err(|error| error.to_string())
}

/// Asks the processes of the shop; nothing where none answers.
async fn ask(settings: &Settings) -> anyhow::Result<Option<Vec<String>>> {
    let secret = match &settings.secret_key {
        Some(text) => Secret::given(text),
        None => match Secret::load(&settings.secret_file()) {
            Ok(secret) => secret,
            // No shop has run here yet.
            Err(_) => return Ok(None),
        },
    };
    let key = HouseKey::new(&secret.key("house"));
    let mut all: Vec<String> = Vec::new();
    let mut has_answered = false;
    for (_, setting) in &settings.services {
        let url = format!("http://{}:{}/internal/v1/{RECOVERY}", settings.host, setting.port);
        let Ok(answer) = ask_once(&url, Some((&key, b"null".to_vec())), PATIENCE).await else { continue };
        let lines: Result<Vec<String>, String> = serde_json::from_slice(&answer)?;
        has_answered = true;
        for line in lines.map_err(|reason| anyhow!("the shop cannot look through its data: {reason}"))? {
            if !all.contains(&line) {
                all.push(line);
            }
        }
    }
    // A process whose own logs fit does not speak for the others.
    if all.iter().any(|line| line.starts_with("does not fit")) {
        all.retain(|line| line != ALL_FITS);
    }
    Ok(has_answered.then_some(all))
}

fn print(lines: &[String]) -> io::Result<()> {
    let mut out = stdout().lock();
    lines.iter().try_for_each(|line| writeln!(out, "{line}"))
}
