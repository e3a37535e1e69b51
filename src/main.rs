//! MicroCommerce: the shop in one binary.
//!
//! # Layout
//!
//! - [`config`]: the settings, each wrong one refused in one sentence
//! - [`tree`]: the supervision tree: one branch a service, one for the gateway
//! - [`service_tree`]: what every service's branch is made of
//! - [`bus`]: which service hears which, over which bus
//! - [`heartbeat`]: who answers pings, and hears how the others are
//! - [`house`]: the places where the services' present incarnations are found
//! - [`secret`]: the one secret of a house
//! - [`trust_keeper`]: who asks the user service of another process whose tokens count
//! - [`ports`]: the listeners, their serving and their end
//! - [`people`]: the administrator, and the demo's buyer
//! - [`tools`]: the commands that look at a running shop
//! - [`demo`]: the demo's catalogue

mod bus;
mod chaos;
mod config;
mod demo;
mod health;
mod heartbeat;
mod house;
mod people;
mod ports;
mod secret;
mod service_tree;
mod tools;
mod tree;
mod trust_keeper;

use std::{
    io::{IsTerminal, stderr},
    process::ExitCode,
    sync::Arc,
};

use anyhow::anyhow;
use clap::Parser;
use config::{Arguments, Settings};
use contracts::Service;
use house::House;
use http_edge::trust;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// Messages, events and answers are made on one thread and freed on another: what the system's allocator is slowest at.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What is said where `RUST_LOG` says nothing. ractor opens a span per actor at `info`.
const LOG_DEFAULT: &str = "info,ractor=warn,librdkafka=off,rdkafka=off";

fn main() -> ExitCode {
    refuse_huge_pages();
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) if error.use_stderr() => return refuse(&config::one_sentence(&error)),
        Err(help) => {
            println!("{help}");
            return ExitCode::SUCCESS;
        }
    };
    let settings = match Settings::read(&arguments, |name| std::env::var(name).ok()) {
        Ok(settings) => settings,
        Err(error) => return refuse(&error.to_string()),
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(LOG_DEFAULT));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(stderr).with_ansi(stderr().is_terminal()).init();
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return refuse(&format!("the system gives no threads: {error}")),
    };
    let done = match &arguments.command {
        Some(command) => runtime.block_on(tools::run(command, &settings)),
        None => runtime.block_on(run(settings)),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => refuse(&error.to_string()),
    }
}

/// A huge page is cleared when it is first touched: it held up commits for up to 8 ms. Where the system gives them to everybody,
/// not asking for them is not enough.
fn refuse_huge_pages() {
    #[cfg(target_os = "linux")]
    // Where the system forbids to say so, answers are later now and then, and never wrong.
    let _ = rustix::thread::disable_transparent_huge_pages(true);
}

fn refuse(sentence: &str) -> ExitCode {
    eprintln!("microcommerce: {sentence}");
    ExitCode::FAILURE
}

/// Opens the shop, keeps it open until it is told to stop, and closes it in order.
async fn run(settings: Settings) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let listeners = ports::bind(&settings).await?;
    let house = Arc::new(House::new(&settings)?);
    let root = tree::start(&house).await?;
    let shop = house.shop(&root);
    if settings.role.services().contains(&Service::User) {
        people::ensure(&settings, &house).await?;
        // Whose tokens had been refused is forgotten with the process.
        trust::renew(&shop).await.map_err(|_| anyhow!("the user service does not say whose tokens count"))?;
    }
    if settings.is_demo && settings.role.services().contains(&Service::Product) {
        demo::stock(&house).await?;
    }
    let keeper = match shop.peer_for(Service::User) {
        Some(_) => Some(tree::start_trust_keeper(&house, &shop).await?),
        None => None,
    };
    let open = ports::open(listeners, &shop);
    println!("{}", settings.greeting());
    let has_fallen = tokio::select! {
        _ = terminate.recv() => false,
        _ = interrupt.recv() => false,
        _ = root.wait(None) => true,
    };
    tracing::info!("closing: no new connections; what is accepted is finished");
    open.close().await;
    if let Some(keeper) = keeper {
        keeper.stop_and_wait(None, None).await?;
    }
    // The tree stops in reverse order; each journal settles what it has and closes.
    if has_fallen {
        anyhow::bail!("the supervision tree fell; the log says why");
    }
    root.stop_and_wait(None, None).await?;
    tracing::info!("closed");
    Ok(())
}
