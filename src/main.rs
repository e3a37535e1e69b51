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
//! - [`ports`]: the listeners, their serving and their end; [`ending`]: who asks for that
//! - [`side_channel`]: stdout and stderr, which may fail
//! - [`people`]: who administers the shop when it starts, and the demo's buyer
//! - [`log_watch`]: each log is watched by a neighbour
//! - [`recover`]: the command that shows and reconciles data that does not fit together
//! - [`tools`]: the commands that look at a running shop; [`operator`]: those that change who administers it
//! - [`demo`]: the demo's catalogue

#![deny(clippy::print_stdout, clippy::print_stderr, reason = "they may fail, and must not matter: use side_channel")]

mod bus;
mod chaos;
mod config;
mod demo;
mod ending;
mod health;
mod heartbeat;
mod house;
mod log_watch;
mod operator;
mod people;
mod ports;
mod recover;
mod secret;
mod service_tree;
mod side_channel;
mod tools;
mod tree;
mod trust_keeper;

use std::{
    io::{self, IsTerminal, stderr},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use anyhow::{anyhow, bail};
use clap::Parser;
use config::{Arguments, Settings};
use contracts::Service;
use ending::Ending;
use house::House;
use http_edge::{Shop, starting::StartProgress, trust};
use ports::Open;
use ractor::ActorRef;
use runtime::supervision::{Fatal, SupervisorMessage};
use side_channel::LogWriter;
use tokio::time::timeout;
use tracing_subscriber::EnvFilter;

/// Messages, events and answers are made on one thread and freed on another: what the system's allocator is slowest at.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What is said where `RUST_LOG` says nothing. ractor opens a span per actor at `info`.
const LOG_DEFAULT: &str = "info,ractor=warn,librdkafka=off,rdkafka=off";

/// `EX_SOFTWARE` of the BSDs' sysexits: what only a new process can mend, such as a failed sync. Whoever watches over the process is to
/// start it again.
const EXIT_CODE_FATAL: u8 = 70;

/// How long a start that is given up may take to close what it had opened.
const GIVEN_UP_WAIT_MAX: Duration = Duration::from_secs(5);
/// How long the tree may take to stop: less than the half minute after which supervisors of processes kill. What it has not
/// settled by then was not acknowledged.
const TREE_STOP_WAIT_MAX: Duration = Duration::from_secs(25);

fn main() -> ExitCode {
    refuse_huge_pages();
    side_channel::take_panics();
    let ended = run_to_end();
    side_channel::flush();
    ended
}

fn run_to_end() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) if error.use_stderr() => return refuse(&config::one_sentence(&error)),
        Err(help) => {
            side_channel::say(help);
            return ExitCode::SUCCESS;
        }
    };
    let settings = match Settings::read(&arguments, |name| std::env::var(name).ok()) {
        Ok(settings) => settings,
        Err(error) => return refuse(&error.to_string()),
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(LOG_DEFAULT));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(|| LogWriter)
        .with_ansi(stderr().is_terminal())
        .log_internal_errors(false)
        .init();
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return refuse(&format!("the system gives no threads: {error}")),
    };
    let done = match &arguments.command {
        Some(command) => runtime.block_on(tools::run(command, &settings)),
        None => runtime.block_on(run(settings)),
    };
    // What still waits for a disk or a broker on a thread of its own is for nobody any more.
    runtime.shutdown_background();
    match done {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever read a command's answer has read enough.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) if error.is::<Fatal>() => {
            refuse(&format!("{error}; start the shop again: it reads what is really on the disk before it serves"));
            ExitCode::from(EXIT_CODE_FATAL)
        }
        Err(error) => refuse(&error.to_string()),
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

/// A huge page is cleared when it is first touched: it held up commits for up to 8 ms. Where the system gives them to everybody,
/// not asking for them is not enough.
fn refuse_huge_pages() {
    #[cfg(target_os = "linux")]
    // Where the system forbids to say so, answers are later now and then, and never wrong.
    let _ = rustix::thread::disable_transparent_huge_pages(true);
}

fn refuse(sentence: &str) -> ExitCode {
    side_channel::complain(format_args!("microcommerce: {sentence}"));
    ExitCode::FAILURE
}

/// Opens the shop, keeps it open until it is told to stop, and closes it in order. The ports answer from the first moment,
/// and the signals are heard from then on.
async fn run(settings: Settings) -> anyhow::Result<()> {
    let ending = Ending::listen()?;
    let listeners = ports::bind(&settings).await?;
    let progress = Arc::new(StartProgress::default());
    let open = ports::open(listeners, &progress);
    let Some(standing) = start_unless_ending(settings, progress, &ending).await? else {
        open.close().await;
        tracing::info!("told to end before it was open; closed");
        return Ok(());
    };
    let house = &standing.house;
    house.settings.without_effect.iter().for_each(|sentence| tracing::warn!("{sentence}"));
    open_to_all(&open, &standing);
    let has_fallen = tokio::select! {
        () = ending.asked() => false,
        _ = standing.root.wait(None) => true,
    };
    tracing::info!("closing: no new connections; what is accepted is finished");
    open.close().await;
    if let Some(reason) = standing.house.roster.fatal() {
        bail!(Fatal(reason.to_owned()));
    }
    if has_fallen {
        bail!("the supervision tree fell; the log says why");
    }
    standing.stop().await?;
    tracing::info!("closed");
    Ok(())
}

/// What stands once the start is over.
struct Standing {
    house: Arc<House>,
    root: ActorRef<SupervisorMessage>,
    shop: Arc<Shop>,
    /// Who asks whose tokens count, where that is another process's matter.
    keeper: Option<ActorRef<SupervisorMessage>>,
    /// What the greeting ends with: who administers the shop.
    last_words: Vec<String>,
}

impl Standing {
    /// The tree stops in reverse order; each journal settles what it has and closes.
    async fn stop(self) -> anyhow::Result<()> {
        if let Some(keeper) = self.keeper {
            keeper.stop_and_wait(None, Some(TREE_STOP_WAIT_MAX)).await?;
        }
        let stopped = self.root.stop_and_wait(None, Some(TREE_STOP_WAIT_MAX)).await;
        stopped
            .map_err(|_| anyhow!("the shop did not close within {TREE_STOP_WAIT_MAX:?}; nothing acknowledged is lost"))
    }
}

/// Starts the shop. Nothing where the process was told to end meanwhile: what stood by then has been stopped in order. It starts
/// in a task of its own: should a disk hold that up without an `.await`, the end is heard all the same.
async fn start_unless_ending(
    settings: Settings,
    progress: Arc<StartProgress>,
    ending: &Ending,
) -> anyhow::Result<Option<Standing>> {
    let mut starting = tokio::spawn(start(settings, progress, ending.clone()));
    let started = tokio::select! {
        started = &mut starting => started,
        // Whatever it waits for hears of the end as well.
        () = ending.asked() => match timeout(GIVEN_UP_WAIT_MAX, starting).await {
            Ok(started) => started,
            Err(_) => return Ok(None),
        },
    };
    match started? {
        Ok(standing) if ending.is_asked() => standing.stop().await.map(|()| None),
        Err(_) if ending.is_asked() => Ok(None),
        started => started.map(Some),
    }
}

async fn start(settings: Settings, progress: Arc<StartProgress>, ending: Ending) -> anyhow::Result<Standing> {
    let asked = ending.clone();
    // It reads the house's secret.
    let house = tokio::task::spawn_blocking(move || House::new(&settings, progress, ending));
    let house = tokio::select! {
        house = house => Arc::new(house??),
        () = asked.asked() => bail!("the process was told to end"),
    };
    let root = tree::start(&house).await?;
    let shop = house.shop(&root);
    let furnished = tokio::select! {
        biased;
        () = house.ending.asked() => Err(anyhow!("the process was told to end")),
        furnished = furnish(&house, &shop) => furnished,
    };
    let standing = Standing { house, root, shop, keeper: None, last_words: Vec::new() };
    match furnished {
        Ok((keeper, last_words)) => Ok(Standing { keeper, last_words, ..standing }),
        Err(error) => {
            standing.stop().await?;
            Err(error)
        }
    }
}

/// Who asks whose tokens count, and what the greeting ends with.
type Furniture = (Option<ActorRef<SupervisorMessage>>, Vec<String>);

/// What the shop needs before it opens, beyond its services.
async fn furnish(house: &Arc<House>, shop: &Arc<Shop>) -> anyhow::Result<Furniture> {
    let settings = &house.settings;
    let mut last_words = Vec::new();
    if settings.role.services().contains(&Service::User) {
        house.progress.began_afterwards("sees to the administrator");
        // A log that is contradicted takes no writes; the shop opens all the same, and `/readyz` says why it sells nothing.
        if house.contradictions(Service::User).is_empty() {
            last_words = people::ensure(settings, &house.users.get()?).await?;
        }
        // Whose tokens had been refused is forgotten with the process.
        trust::renew(shop).await.map_err(|_| anyhow!("the user service does not say whose tokens count"))?;
    }
    let takes_products =
        settings.role.services().contains(&Service::Product) && house.contradictions(Service::Product).is_empty();
    if settings.is_demo && takes_products {
        house.progress.began_afterwards("puts the demo's catalogue in");
        demo::stock(house).await?;
    }
    match shop.peer_for(Service::User) {
        Some(_) => Ok((Some(tree::start_trust_keeper(house, shop).await?), last_words)),
        None => Ok((None, last_words)),
    }
}

fn open_to_all(open: &Open, standing: &Standing) {
    open.switch_to(&standing.shop);
    let house = &standing.house;
    house.progress.is_over_now();
    let lines = [house.settings.greeting()].into_iter().chain(standing.last_words.iter().cloned());
    side_channel::say(lines.collect::<Vec<_>>().join("\n"));
}
