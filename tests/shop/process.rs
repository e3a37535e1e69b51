//! The release binary as a child process, or as five: opened on free ports and a directory of its own, killed, reopened, ended.
//!
//! `SHOP_FORM` chooses how a shop is opened: `one` process with nothing beside it (the default), `kafka` for one process
//! on the broker of `KAFKA_BROKER`, `roles` for a process per role on that broker. Every shop has topics of its own there.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::http::Client;
use super::people::{ADMIN_EMAIL, ADMIN_PASSWORD};
use super::ports::{free_port, listens};
use super::until;

/// A shop that is not ready by then never will be; a cold disk and a busy machine are allowed for.
const READY_WITHIN: Duration = Duration::from_secs(30);
/// A process that must end, ends by then.
const ENDED_WITHIN: Duration = Duration::from_secs(30);
/// How long a line may take from the work that it speaks of to the file.
const LOGGED_WITHIN: Duration = Duration::from_secs(10);
/// What is shown of a shop's log when its test fails.
const LOG_LINES_SHOWN: usize = 60;

/// Settings that the tests' own environment may have and a shop must be given by name.
const NOT_INHERITED: [&str; 9] = [
    "KAFKA_BROKER",
    "KAFKA_TOPIC_PREFIX",
    "SECRET_KEY",
    "ADVERTISED_HOST",
    "HOST",
    "DEV_CHAOS",
    "ADMIN_EMAIL",
    "ADMIN_PASSWORD",
    "DATA_DIR",
];
static SHOPS_OPENED: AtomicU16 = AtomicU16::new(0);

/// How many processes a shop is, and what it talks over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Form {
    /// One process, the embedded bus.
    One,
    /// One process on Kafka.
    Kafka,
    /// A process per role on Kafka.
    Roles,
}

impl Form {
    /// What `SHOP_FORM` says.
    pub fn asked() -> Self {
        match std::env::var("SHOP_FORM").as_deref() {
            Err(_) | Ok("" | "one") => Self::One,
            Ok("kafka") => Self::Kafka,
            Ok("roles") => Self::Roles,
            Ok(other) => panic!("SHOP_FORM={other}: it is one, kafka or roles"),
        }
    }
}

/// A role of the process and the setting of its port.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Role {
    Gateway,
    Payment,
    Product,
    User,
    Order,
}

impl Role {
    pub const ALL: [Self; 5] = [Self::Gateway, Self::Payment, Self::Product, Self::User, Self::Order];

    pub fn setting(self) -> &'static str {
        match self {
            Self::Gateway => "PORT",
            Self::Payment => "PAYMENT_PORT",
            Self::Product => "PRODUCT_PORT",
            Self::User => "USER_PORT",
            Self::Order => "ORDER_PORT",
        }
    }

    /// What `--role` calls it.
    pub fn argument(self) -> &'static str {
        match self {
            Self::Gateway => "gateway",
            Self::Payment => "payment",
            Self::Product => "product",
            Self::User => "user",
            Self::Order => "order",
        }
    }

    pub fn service(self) -> &'static str {
        match self {
            Self::Gateway => "api-gateway",
            Self::Payment => "payment-service",
            Self::Product => "product-service",
            Self::User => "user-service",
            Self::Order => "order-service",
        }
    }
}

/// How a shop is to be opened: what its process is told.
pub struct Opening {
    form: Form,
    settings: BTreeMap<String, String>,
    arguments: Vec<String>,
    outputs: Option<Outputs>,
}

/// Where a process's stdout and stderr go; nothing: to the shop's log.
type Outputs = Box<dyn Fn() -> (Option<Stdio>, Option<Stdio>)>;

impl Opening {
    /// Free ports, an admin, no rate limit, nothing from the environment of the tests.
    pub fn new() -> Self {
        let mut settings: BTreeMap<String, String> =
            Role::ALL.into_iter().map(|role| (role.setting().to_owned(), free_port().to_string())).collect();
        settings.insert("ADMIN_EMAIL".to_owned(), ADMIN_EMAIL.to_owned());
        settings.insert("ADMIN_PASSWORD".to_owned(), ADMIN_PASSWORD.to_owned());
        settings.insert("RATE_LIMIT_PROFILE".to_owned(), "off".to_owned());
        settings.insert("RUST_LOG".to_owned(), std::env::var("RUST_LOG").unwrap_or_else(|_| "warn".to_owned()));
        Self { form: Form::One, settings, arguments: Vec::new(), outputs: None }.formed(Form::asked())
    }

    /// In this form, whatever `SHOP_FORM` says; on the broker of `KAFKA_BROKER`, with topics of its own.
    pub fn formed(mut self, form: Form) -> Self {
        self.form = form;
        for setting in ["KAFKA_BROKER", "KAFKA_TOPIC_PREFIX"] {
            self.settings.remove(setting);
        }
        if form != Form::One {
            let broker = std::env::var("KAFKA_BROKER").expect("KAFKA_BROKER says where the broker of this form is");
            let number = SHOPS_OPENED.fetch_add(1, Ordering::Relaxed);
            self.settings.insert("KAFKA_BROKER".to_owned(), broker);
            let started = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis();
            self.settings
                .insert("KAFKA_TOPIC_PREFIX".to_owned(), format!("t{started}-{}-{number}-", std::process::id()));
        }
        self
    }

    /// The processes of the shop.
    fn processes(&self) -> Vec<Option<Role>> {
        match self.form {
            Form::One | Form::Kafka => vec![None],
            Form::Roles => Role::ALL.into_iter().map(Some).collect(),
        }
    }

    /// With an environment variable set.
    pub fn set(mut self, name: &str, value: impl ToString) -> Self {
        self.settings.insert(name.to_owned(), value.to_string());
        self
    }

    /// With an environment variable left out.
    pub fn unset(mut self, name: &str) -> Self {
        self.settings.remove(name);
        self
    }

    /// With an argument on the command line.
    pub fn argument(mut self, argument: &str) -> Self {
        self.arguments.push(argument.to_owned());
        self
    }

    /// With stdout and stderr of each of its processes going there, where something is given.
    pub fn outputs(mut self, outputs: impl Fn() -> (Option<Stdio>, Option<Stdio>) + 'static) -> Self {
        self.outputs = Some(Box::new(outputs));
        self
    }

    /// The process, not yet started, in `directory`.
    pub fn command(&self, directory: &Path) -> Command {
        self.command_of(None, directory)
    }

    fn command_of(&self, role: Option<Role>, directory: &Path) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_microcommerce"));
        for setting in NOT_INHERITED {
            command.env_remove(setting);
        }
        command.args(&self.arguments).env("DATA_DIR", directory).envs(&self.settings).stdin(Stdio::null());
        if let Some(role) = role {
            command.args(["--role", role.argument()]).env("PORT", &self.settings[role.setting()]);
        }
        command
    }

    /// Runs a process that must refuse to start or has only a word to say.
    pub fn run_to_end(&self, directory: &Path) -> Ended {
        let mut child = self.command(directory).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut stdout = child.stdout.take().unwrap();
        let mut stderr = child.stderr.take().unwrap();
        let read_stdout = thread::spawn(move || {
            let mut text = String::new();
            stdout.read_to_string(&mut text).unwrap();
            text
        });
        let read_stderr = thread::spawn(move || {
            let mut text = String::new();
            stderr.read_to_string(&mut text).unwrap();
            text
        });
        let status = wait_for_end(&mut child);
        Ended { status, stdout: read_stdout.join().unwrap(), stderr: read_stderr.join().unwrap() }
    }

    /// Opens the shop in a directory of its own; it may not become ready for a while.
    pub fn open_without_waiting(self) -> Shop {
        Shop::open_without_waiting(self)
    }

    /// Opens the shop in a directory of its own and waits until it is ready.
    pub fn open(self) -> Shop {
        Shop::open(self)
    }
}

/// A process that has ended by itself.
#[derive(Debug)]
pub struct Ended {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
}

/// Waits for a process; one that does not end is killed and fails the test.
pub fn wait_for_end(child: &mut Child) -> ExitStatus {
    let started = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        if started.elapsed() > ENDED_WITHIN {
            child.kill().unwrap();
            child.wait().unwrap();
            panic!("the process did not end within {ENDED_WITHIN:?}");
        }
        thread::sleep(Duration::from_millis(2));
    }
}

/// An open shop. Dropped, it is killed; if its test failed, the end of its log is shown.
pub struct Shop {
    opening: Opening,
    processes: Vec<(Option<Role>, Child)>,
    directory: TempDir,
    /// From the start of the processes to the first ready answer.
    pub ready_after: Duration,
}

impl Shop {
    /// A shop with nothing special.
    pub fn start() -> Self {
        Opening::new().open()
    }

    fn open(opening: Opening) -> Self {
        let mut shop = Self::open_without_waiting(opening);
        shop.wait_until_ready();
        shop
    }

    fn open_without_waiting(opening: Opening) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut shop = Self { opening, processes: Vec::new(), directory, ready_after: Duration::ZERO };
        shop.spawn_all();
        shop
    }

    /// Another process of the same binary with the settings of this shop.
    pub fn command(&self) -> Command {
        self.opening.command(&data_dir(self.directory.path()))
    }

    fn spawn_all(&mut self) {
        for role in self.opening.processes() {
            self.processes.push((role, spawn(&self.opening, role, self.directory.path())));
        }
    }

    /// How it was opened.
    pub fn form(&self) -> Form {
        self.opening.form
    }

    /// Where the shop keeps its data.
    pub fn data_dir(&self) -> PathBuf {
        data_dir(self.directory.path())
    }

    /// All that the shop's processes have printed.
    pub fn log(&self) -> String {
        std::fs::read_to_string(log_path(self.directory.path())).unwrap()
    }

    /// Waits for a line of the log that holds all of these words: lines are written beside the work, not before it goes on.
    pub fn wait_for_line(&self, words: &[&str]) {
        let is_meant = |line: &str| words.iter().all(|word| line.contains(word));
        until(LOGGED_WITHIN, &format!("a line of the log with {words:?}"), || {
            self.log().lines().any(is_meant).then_some(())
        });
    }

    /// A setting that it was opened with.
    pub fn setting(&self, name: &str) -> Option<&str> {
        self.opening.settings.get(name).map(String::as_str)
    }

    /// Sets, or with `None` leaves out, an environment variable from the next start on.
    pub fn change_setting(&mut self, name: &str, value: Option<&str>) {
        match value {
            Some(value) => self.opening.settings.insert(name.to_owned(), value.to_owned()),
            None => self.opening.settings.remove(name),
        };
    }

    pub fn port(&self, role: Role) -> u16 {
        self.opening.settings[role.setting()].parse().unwrap()
    }

    /// Somebody at the gateway who is not signed in. New connections for each client.
    pub fn client(&self) -> Client {
        Client::of_port(self.port(Role::Gateway))
    }

    /// Waits until the gateway says that every service can be asked.
    pub fn wait_until_ready(&mut self) {
        let started = Instant::now();
        let client = self.client();
        let log = log_path(self.directory.path());
        let processes = &mut self.processes;
        until(READY_WITHIN, "the shop is ready", || {
            for (role, process) in &mut *processes {
                if let Some(status) = process.try_wait().unwrap() {
                    panic!("the process {role:?} ended with {status} before the shop was ready:\n{}", log_tail(&log));
                }
            }
            client.get("/readyz").try_send().ok().filter(|answer| answer.status == 200)
        });
        self.ready_after = started.elapsed();
        self.assert_ports_are_its_own();
    }

    /// What answers on the shop's ports is the shop, and nobody else's.
    fn assert_ports_are_its_own(&self) {
        for (role, process) in &self.processes {
            let roles = role.map_or_else(|| Role::ALL.to_vec(), |role| vec![role]);
            for port in roles.into_iter().map(|role| self.port(role)) {
                assert_ne!(
                    listens(process, port),
                    Some(false),
                    "somebody else listens on {port}, not process {role:?}"
                );
            }
        }
    }

    /// `kill -9`: no word to the processes.
    pub fn kill_9(&mut self) {
        for (_, process) in &mut self.processes {
            process.kill().unwrap();
        }
        for (_, mut process) in self.processes.drain(..) {
            process.wait().unwrap();
        }
    }

    /// `kill -9` of the process of one role, in a shop that has one.
    pub fn kill_9_role(&mut self, role: Role) {
        let place = self.processes.iter().position(|(of, _)| *of == Some(role)).expect("the role has a process");
        let (_, mut process) = self.processes.remove(place);
        process.kill().unwrap();
        process.wait().unwrap();
    }

    /// Starts the process of one role again.
    pub fn reopen_role(&mut self, role: Role) {
        assert!(self.processes.iter().all(|(of, _)| *of != Some(role)), "the role still runs");
        self.processes.push((Some(role), spawn(&self.opening, Some(role), self.directory.path())));
    }

    /// Starts the processes again on the same directory and the same ports, and waits until the shop is ready.
    pub fn reopen(&mut self) {
        self.reopen_without_waiting();
        self.wait_until_ready();
    }

    /// Starts the processes again; they may not become ready for a while.
    pub fn reopen_without_waiting(&mut self) {
        for (_, process) in &mut self.processes {
            assert!(process.try_wait().unwrap().is_some(), "the shop is still open");
        }
        self.processes.clear();
        self.spawn_all();
    }

    /// Asks the processes to end, as an operator's Ctrl-C or a supervisor does.
    pub fn send_sigterm(&self) {
        self.send_signal("TERM");
    }

    /// Sends a signal to the processes.
    pub fn send_signal(&self, name: &str) {
        for (_, process) in &self.processes {
            let status = Command::new("kill").args([&format!("-{name}"), &process.id().to_string()]).status().unwrap();
            assert!(status.success(), "kill -{name} failed");
        }
    }

    /// Ends the shop as an operator does, so that it takes its leave of a Kafka broker that other tests go on using.
    pub fn close(mut self) {
        self.send_sigterm();
        let status = self.wait_for_end();
        assert_eq!(status.code(), Some(0), "{status}");
    }

    /// Waits for the processes to end by themselves; the first status that is not 0, or 0.
    pub fn wait_for_end(&mut self) -> ExitStatus {
        let ends: Vec<ExitStatus> = self.processes.iter_mut().map(|(_, process)| wait_for_end(process)).collect();
        *ends.iter().find(|status| !status.success()).unwrap_or(&ends[0])
    }
}

impl Drop for Shop {
    fn drop(&mut self) {
        for (_, process) in &mut self.processes {
            let _already_ended = process.kill();
            let _already_waited = process.wait();
        }
        if thread::panicking() {
            eprintln!("--- the shop's log ends with:\n{}", log_tail(&log_path(self.directory.path())));
        }
    }
}

fn data_dir(directory: &Path) -> PathBuf {
    directory.join("data")
}

fn log_path(directory: &Path) -> PathBuf {
    directory.join("log")
}

fn spawn(opening: &Opening, role: Option<Role>, directory: &Path) -> Child {
    let log = File::options().create(true).append(true).open(log_path(directory)).unwrap();
    let mut command = opening.command_of(role, &data_dir(directory));
    let (stdout, stderr) = opening.outputs.as_ref().map_or((None, None), |outputs| outputs());
    command.stdout(stdout.unwrap_or_else(|| log.try_clone().unwrap().into()));
    command.stderr(stderr.unwrap_or_else(|| log.into()));
    command.spawn().unwrap()
}

fn log_tail(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..].join("\n")
}
