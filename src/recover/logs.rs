//! The logs of a shop: those of this process, or those of a directory whose shop is stopped.

use std::{path::Path, sync::Arc};

use anyhow::bail;
use contracts::Service;
use runtime::{
    Journal,
    journal::sqlite::{SqliteJournal, SqliteOptions},
};

use crate::{house::House, log_watch::BOOKS, service_tree::views_of};

/// A log by its name, which is its directory's.
#[derive(Clone)]
pub struct Log {
    pub name: &'static str,
    pub journal: Arc<dyn Journal>,
}

/// See the module's text.
pub struct Logs {
    logs: Vec<Log>,
}

impl Logs {
    /// Those that run in this process.
    pub fn of_house(house: &House) -> Self {
        let mut logs = Vec::new();
        for service in Service::ALL {
            logs.extend(house.journal(service).get().ok().map(|journal| Log { name: service.name(), journal }));
        }
        logs.extend(house.books.get().ok().map(|journal| Log { name: BOOKS, journal }));
        Self { logs }
    }

    /// Those of a stopped shop, under their locks. One that is missing is begun, as the shop would.
    ///
    /// # Errors
    /// In one sentence, where one of them is in use or cannot be read.
    pub async fn open(data_dir: &Path) -> anyhow::Result<Self> {
        let is_of_a_shop = Self::names().any(|name| data_dir.join(name).is_dir());
        if !is_of_a_shop {
            bail!("there is no shop's data in {}: DATA_DIR says where it is", data_dir.display());
        }
        let mut opened = Self { logs: Vec::new() };
        for name in Self::names() {
            match open_one(data_dir, name).await {
                Ok(journal) => opened.logs.push(Log { name, journal }),
                Err(error) => {
                    opened.close().await;
                    return Err(error);
                }
            }
        }
        Ok(opened)
    }

    /// The names of all logs of a shop.
    pub fn names() -> impl Iterator<Item = &'static str> {
        Service::ALL.into_iter().map(Service::name).chain([BOOKS])
    }

    /// All of them.
    pub fn all(&self) -> &[Log] {
        &self.logs
    }

    /// A service's log, where it is here.
    pub fn of(&self, service: Service) -> Option<&Arc<dyn Journal>> {
        self.named(service.name())
    }

    /// The log of this name, where it is here.
    pub fn named(&self, name: &str) -> Option<&Arc<dyn Journal>> {
        self.logs.iter().find(|log| log.name == name).map(|log| &log.journal)
    }

    /// Closes all of them.
    pub async fn close(self) {
        for log in self.logs {
            log.journal.close().await;
        }
    }
}

async fn open_one(data_dir: &Path, name: &'static str) -> anyhow::Result<Arc<dyn Journal>> {
    let options = SqliteOptions::new(data_dir.join(name), views_of(name));
    Ok(tokio::task::spawn_blocking(move || SqliteJournal::open(&options)).await??)
}
