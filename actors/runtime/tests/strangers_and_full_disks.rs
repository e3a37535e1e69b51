//! Other programs at the database, and disks without room, then `kill -9`: what was acknowledged is there.
//!
//! The test starts itself as a child process that keeps entities under load, prints each command once it is acknowledged, and says what
//! troubles its journal. The parent is the stranger: to SQLite and to the system it is another program.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod support;

use std::{
    collections::BTreeSet,
    env, fs,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, RecvTimeoutError, channel},
    },
    thread,
    time::{Duration, Instant},
};

use microcommerce_runtime::{
    CommandId, EntitiesConfig, Journal,
    journal::sqlite::{SqliteJournal, SqliteOptions},
};
use rusqlite::Connection;
use support::{Count, PATIENCE, System, VIEWS, command};

const CHILD_TEST: &str = "the_child";
const CHILD_DIRECTORY: &str = "STRANGERS_DIRECTORY";
const CLIENTS: u64 = 16;
const COUNTERS: u64 = 40;
const ACKNOWLEDGED: &str = "acknowledged ";

fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    // The test harness writes without ends of lines.
    writeln!(out, "\n{line}").unwrap();
    out.flush().unwrap();
}

/// The child: works until it is killed. Told to `restart`, it opens its journal anew in the process, and keeps the old one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_child() {
    let Ok(directory) = env::var(CHILD_DIRECTORY) else { return };
    let directory = PathBuf::from(directory);
    let numbers = Arc::new(AtomicU64::new(1));
    let system = Arc::new(Mutex::new(work_on(&directory, &numbers).await));
    let mut former = Vec::new();
    let (orders, mut ordered) = tokio::sync::mpsc::unbounded_channel();
    thread::spawn(move || {
        for line in std::io::stdin().lines() {
            let _ = orders.send(line.unwrap());
        }
    });
    let mut said = String::new();
    loop {
        let order = tokio::time::timeout(Duration::from_millis(20), ordered.recv()).await;
        let journal = Arc::clone(&system.lock().unwrap().0);
        if let Ok(Some(order)) = order {
            assert_eq!(order, "restart");
            // As a tree that is killed: nobody waits for the end.
            drop(journal.close());
            former.push(journal);
            let again = work_on(&directory, &numbers).await;
            *system.lock().unwrap() = again;
            say("restarted");
            continue;
        }
        let now = match (journal.is_open(), journal.health().trouble) {
            (false, _) => format!("closed {}", journal.closed().await),
            (true, Some((trouble, _))) => format!("trouble {trouble:?}"),
            (true, None) => "well".to_owned(),
        };
        if now != said {
            say(&now);
            said = now;
        }
    }
}

/// Opens the directory and asks its entities, for as long as their journal is open.
async fn work_on(directory: &Path, numbers: &Arc<AtomicU64>) -> (Arc<SqliteJournal>, System) {
    let path = directory.to_owned();
    let open = move || tokio::runtime::Handle::current().block_on(System::start_with(&path, EntitiesConfig::default()));
    let system = tokio::task::spawn_blocking(open).await.unwrap();
    let journal = Arc::clone(&system.journal);
    for _ in 0..CLIENTS {
        let (counters, journal, numbers) = (system.counters.clone(), Arc::clone(&journal), Arc::clone(numbers));
        tokio::spawn(async move {
            while journal.is_open() {
                let number = numbers.fetch_add(1, Ordering::Relaxed);
                let asked = counters.ask(format!("c{}", number % COUNTERS), Count::Add(1), command(number)).await;
                match asked {
                    Ok(_) => say(&format!("{ACKNOWLEDGED}{number}")),
                    Err(_) => tokio::time::sleep(Duration::from_millis(1)).await,
                }
            }
        });
    }
    (journal, system)
}

struct Worker {
    child: Child,
    stdin: ChildStdin,
    lines: Receiver<String>,
    acknowledged: BTreeSet<u64>,
}

impl Worker {
    fn start(directory: &Path) -> Self {
        Self::start_by(Command::new(env::current_exe().unwrap()), directory)
    }

    fn start_by(mut command: Command, directory: &Path) -> Self {
        let mut child = command
            .args([CHILD_TEST, "--exact", "--nocapture", "--test-threads=1"])
            .env(CHILD_DIRECTORY, directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (said, lines) = channel();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        thread::spawn(move || stdout.lines().map_while(Result::ok).try_for_each(|line| said.send(line)));
        let stdin = child.stdin.take().unwrap();
        let mut worker = Self { child, stdin, lines, acknowledged: BTreeSet::new() };
        worker.work(100);
        worker
    }

    /// Hears what it says until `line`.
    fn hear(&mut self, line: &str) {
        self.hear_until(&format!("to say {line:?}"), |said, _| said == line);
    }

    /// Hears what it says until so many more commands are acknowledged.
    fn work(&mut self, more: usize) {
        let enough = self.acknowledged.len() + more;
        self.hear_until("to acknowledge more", |_, acknowledged| acknowledged >= enough);
    }

    fn hear_until(&mut self, what: &str, is_it: impl Fn(&str, usize) -> bool) {
        let give_up_at = Instant::now() + 2 * PATIENCE;
        loop {
            let line = self.lines.recv_timeout(give_up_at.saturating_duration_since(Instant::now()));
            let line = line.unwrap_or_else(|error| panic!("the child was {what}: {error}"));
            self.note(&line);
            if is_it(&line, self.acknowledged.len()) {
                return;
            }
        }
    }

    fn note(&mut self, line: &str) {
        assert!(!line.starts_with("closed"), "its journal was to stay open: {line}");
        if let Some(number) = line.strip_prefix(ACKNOWLEDGED) {
            self.acknowledged.insert(number.parse().unwrap());
        }
    }

    fn tell(&mut self, order: &str) {
        writeln!(self.stdin, "{order}").unwrap();
    }

    /// `kill -9`, and what it had said until then.
    fn kill_9(mut self) -> BTreeSet<u64> {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        loop {
            match self.lines.recv_timeout(PATIENCE) {
                Ok(line) => self.note(&line),
                Err(RecvTimeoutError::Disconnected) => return std::mem::take(&mut self.acknowledged),
                Err(RecvTimeoutError::Timeout) => panic!("its output does not end"),
            }
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Everything acknowledged is there, and what is there adds up.
async fn check(directory: &Path, acknowledged: &BTreeSet<u64>) {
    let journal = SqliteJournal::open(&SqliteOptions::new(directory, VIEWS)).unwrap();
    let events = journal.query("SELECT count(DISTINCT command_id), count(*) FROM events", vec![]).await.unwrap();
    assert_eq!(events[0].integer(0).unwrap(), events[0].integer(1).unwrap(), "each command once");
    let mut lost = Vec::new();
    for &number in acknowledged {
        let id = CommandId::of(&["test", &number.to_string()]);
        let stream: Arc<str> = format!("counter/c{}", number % COUNTERS).into();
        let found = journal.query(
            "SELECT 1 FROM events WHERE stream = ?1 AND command_id = ?2",
            vec![(&*stream).into(), microcommerce_runtime::SqlValue::Blob(id.as_bytes().to_vec())],
        );
        if found.await.unwrap().is_empty() {
            lost.push(number);
        }
    }
    assert!(lost.is_empty(), "of {} acknowledged {} are lost: {lost:?}", acknowledged.len(), lost.len());
    journal.close().await;
}

/// What `sqlite3 journal.db 'SELECT …'` does.
fn look(directory: &Path) -> Connection {
    let stranger = Connection::open(directory.join("journal.db")).unwrap();
    stranger.query_row("SELECT count(*) FROM events", [], |row| row.get::<_, i64>(0)).unwrap();
    stranger
}

#[tokio::test]
async fn a_stranger_who_looks_after_a_restart_in_the_process_costs_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let mut worker = Worker::start(directory.path());
    for _ in 0..3 {
        worker.tell("restart");
        worker.hear("restarted");
        worker.work(100);
        look(directory.path()).close().unwrap();
        worker.work(300);
    }
    check(directory.path(), &worker.kill_9()).await;
}

#[tokio::test]
async fn a_stranger_who_holds_the_lock_delays_and_costs_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let mut worker = Worker::start(directory.path());
    let stranger = look(directory.path());
    stranger.execute_batch("BEGIN IMMEDIATE").unwrap();
    worker.hear("trouble Busy");
    // Longer than SQLite's own patience of five seconds, and nothing happens meanwhile.
    let held = Instant::now();
    while held.elapsed() < Duration::from_secs(7) {
        match worker.lines.recv_timeout(Duration::from_millis(50)) {
            Ok(line) => worker.note(&line),
            Err(error) => assert_eq!(error, RecvTimeoutError::Timeout),
        }
    }
    stranger.close().unwrap();
    worker.hear("well");
    worker.work(300);
    check(directory.path(), &worker.kill_9()).await;
}

/// A small file system, taken away when the test ends.
struct SmallDisk(PathBuf);

impl SmallDisk {
    const BYTES: usize = 8 << 20;

    /// Nothing where the system lets nobody mount one.
    fn mount(on: &Path) -> Option<Self> {
        let size = format!("size={}", Self::BYTES);
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(on).stderr(Stdio::null()).status();
        mounted.is_ok_and(|status| status.success()).then(|| Self(on.to_owned()))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// Where there is no right to mount a small disk, the next test says the same of a limit.
#[tokio::test]
async fn a_full_disk_refuses_writes_reads_on_and_goes_on_by_itself() {
    let place = tempfile::tempdir().unwrap();
    let Some(_disk) = SmallDisk::mount(place.path()) else {
        println!("no right to mount: see the test with a limit");
        return;
    };
    let directory = place.path().join("journal");
    let ballast = place.path().join("ballast");
    let mut worker = Worker::start(&directory);
    for _ in 0..2 {
        // Fill what is left.
        let mut file = fs::File::create(&ballast).unwrap();
        let page = [1; 4096];
        while file.write_all(&page).is_ok() {}
        drop(file);
        worker.hear("trouble Full");
        // Who only reads goes on.
        look(&directory).close().unwrap();
        fs::remove_file(&ballast).unwrap();
        worker.hear("well");
        worker.work(100);
    }
    check(&directory, &worker.kill_9()).await;
}

/// The system's limit of a file's size: another way to have no room.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_limit_of_file_sizes_refuses_writes_and_lifted_it_goes_on() {
    let directory = tempfile::tempdir().unwrap();
    let mut command = Command::new("sh");
    // In blocks of 512 bytes; the signal that comes with it is ignored, as a server does.
    command.args(["-c", "trap '' XFSZ; ulimit -S -f 4096; exec \"$@\"", "sh"]).arg(env::current_exe().unwrap());
    let mut worker = Worker::start_by(command, directory.path());
    worker.hear("trouble Full");
    look(directory.path()).close().unwrap();
    let pid = worker.child.id().to_string();
    let lifted = Command::new("prlimit").args(["--pid", &pid, "--fsize=unlimited"]).status().unwrap();
    assert!(lifted.success());
    worker.hear("well");
    worker.work(300);
    check(directory.path(), &worker.kill_9()).await;
}
