//! stdout and stderr: side channels, which may fail and must not matter.
//!
//! **Owns** for each of the two a bounded queue and the thread that writes it. Whoever has a line leaves it here and goes on:
//! the log, the panic hook, the greeting, the sentence with which a process ends. A line that cannot be written (the disk is
//! full, the collector has died, the terminal is gone) is lost and counted; a reader that stands still fills the queue, and
//! what comes then is lost and counted, too. Nobody who speaks waits or fails. At the end of the process [`flush`] waits a
//! bounded time for what is left. The threads live as long as the process.
//!
//! Kept crates were looked at: `tracing-appender` queues in this way, but counts no failed writes, is for the log alone, and
//! at its end prints to stdout when its queue is full, which stands still with the same reader.

use std::{
    backtrace::{Backtrace, BacktraceStatus},
    collections::VecDeque,
    fmt::Display,
    io::{self, Write},
    panic,
    sync::{
        Arc, Condvar, LazyLock, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use http_edge::metrics::{Kind, Sample};

/// Lines that wait to be written: a burst of a few thousand requests, each with a line or two.
const LINES_MAX: usize = 8_192;
/// Bytes of these lines: long ones must not make up for their number.
const BYTES_MAX: usize = 4 * 1024 * 1024;
/// How long the end of the process waits for both channels: a reader that lives takes milliseconds.
const FLUSH_WAIT_MAX: Duration = Duration::from_secs(1);

static STDOUT: LazyLock<SideChannel> = LazyLock::new(|| SideChannel::start("stdout", io::stdout()));
static STDERR: LazyLock<SideChannel> = LazyLock::new(|| SideChannel::start("stderr", io::stderr()));

/// Says a line to whoever started the process, on stdout.
pub fn say(line: impl Display) {
    STDOUT.push(format!("{line}\n").as_bytes());
}

/// Says a line on stderr, beside the log.
pub fn complain(line: impl Display) {
    STDERR.push(format!("{line}\n").as_bytes());
}

/// Waits until everything said is written, but not for long.
pub fn flush() {
    let until = Instant::now() + FLUSH_WAIT_MAX;
    for channel in [&*STDERR, &*STDOUT] {
        channel.flush_until(until);
    }
}

/// Panics are lines of stderr like any other: the usual hook writes there itself, and would wait for a reader that stands still.
pub fn take_panics() {
    panic::set_hook(Box::new(|panic| {
        let thread = thread::current();
        complain(format_args!("thread '{}' {panic}", thread.name().unwrap_or("without a name")));
        let backtrace = Backtrace::capture();
        if backtrace.status() == BacktraceStatus::Captured {
            complain(backtrace);
        }
    }));
}

/// The numbers for `/metrics`.
pub fn samples() -> Vec<Sample> {
    let sample = |stream: &str, channel: &SideChannel| Sample {
        name: "log_lines_lost_total",
        kind: Kind::Counter,
        help: "Lines of the log, or said to the operator, that could not be written.",
        labels: vec![("stream", stream.to_owned())],
        value: channel.lost(),
    };
    vec![sample("stderr", &STDERR), sample("stdout", &STDOUT)]
}

/// The log's end of stderr: it takes every line and never fails.
pub struct LogWriter;

impl Write for LogWriter {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        STDERR.push(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// One channel: a queue, and the thread that writes it.
struct SideChannel(Arc<Shared>);

struct Shared {
    queue: Mutex<Queue>,
    filled: Condvar,
    emptied: Condvar,
    lost: AtomicU64,
}

#[derive(Default)]
struct Queue {
    lines: VecDeque<Box<[u8]>>,
    /// Of the lines, and of the one that is being written.
    bytes: usize,
    is_writing: bool,
}

impl SideChannel {
    fn start(name: &str, mut out: impl Write + Send + 'static) -> Self {
        let shared = Arc::new(Shared {
            queue: Mutex::default(),
            filled: Condvar::new(),
            emptied: Condvar::new(),
            lost: AtomicU64::new(0),
        });
        let theirs = Arc::clone(&shared);
        // Without a thread nothing is written: the queue fills, and the lines are counted as lost.
        let _ = thread::Builder::new().name(format!("{name}-writer")).spawn(move || {
            loop {
                let line = theirs.next();
                if out.write_all(&line).and_then(|()| out.flush()).is_err() {
                    theirs.lost.fetch_add(1, Ordering::Relaxed);
                }
                theirs.wrote(line.len());
            }
        });
        Self(shared)
    }

    fn push(&self, line: &[u8]) {
        let mut queue = self.0.queue();
        if queue.lines.len() >= LINES_MAX || queue.bytes.saturating_add(line.len()) > BYTES_MAX {
            self.0.lost.fetch_add(1, Ordering::Relaxed);
            return;
        }
        queue.bytes += line.len();
        queue.lines.push_back(line.into());
        self.0.filled.notify_one();
    }

    fn lost(&self) -> u64 {
        self.0.lost.load(Ordering::Relaxed)
    }

    /// Whether everything was written, or lost, by then.
    fn flush_until(&self, until: Instant) -> bool {
        let mut queue = self.0.queue();
        while queue.is_writing || !queue.lines.is_empty() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            queue = self.0.emptied.wait_timeout(queue, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next(&self) -> Box<[u8]> {
        let mut queue = self.queue();
        loop {
            if let Some(line) = queue.lines.pop_front() {
                queue.is_writing = true;
                return line;
            }
            queue = self.filled.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn wrote(&self, bytes: usize) {
        let mut queue = self.queue();
        queue.bytes -= bytes;
        queue.is_writing = false;
        if queue.lines.is_empty() {
            self.emptied.notify_all();
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);

    /// Fails as often as it is told, then writes.
    struct Flaky {
        failures: usize,
        written: Arc<Mutex<Vec<u8>>>,
    }

    impl Write for Flaky {
        fn write(&mut self, line: &[u8]) -> io::Result<usize> {
            if self.failures > 0 {
                self.failures -= 1;
                return Err(io::ErrorKind::BrokenPipe.into());
            }
            self.written.lock().unwrap().extend_from_slice(line);
            Ok(line.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// A reader that stands still until it is let go.
    struct Stalled(mpsc::Receiver<()>);

    impl Write for Stalled {
        fn write(&mut self, line: &[u8]) -> io::Result<usize> {
            // It ends when the other end is dropped.
            let _ = self.0.recv();
            Ok(line.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn what_cannot_be_written_is_counted_and_what_comes_later_is_written() {
        let written = Arc::default();
        let channel = SideChannel::start("flaky", Flaky { failures: 2, written: Arc::clone(&written) });
        for line in ["one\n", "two\n", "three\n"] {
            channel.push(line.as_bytes());
        }
        assert!(channel.flush_until(Instant::now() + PATIENCE));
        assert_eq!(channel.lost(), 2);
        assert_eq!(*written.lock().unwrap(), b"three\n");
    }

    #[test]
    fn nobody_waits_for_a_reader_that_stands_still_and_memory_is_bounded() {
        let (let_go, waits) = mpsc::channel();
        let channel = SideChannel::start("stalled", Stalled(waits));
        let said = LINES_MAX + 100;
        for _ in 0..said {
            channel.push(b"a line\n");
        }
        // One may be with the writer already.
        let lost = usize::try_from(channel.lost()).unwrap();
        assert!((said - LINES_MAX - 1..=said - LINES_MAX).contains(&lost), "{lost}");
        assert!(!channel.flush_until(Instant::now() + Duration::from_millis(20)), "the end does not wait for long");
        drop(let_go);
        assert!(channel.flush_until(Instant::now() + PATIENCE));
        assert_eq!(usize::try_from(channel.lost()).unwrap(), lost);
    }

    #[test]
    fn long_lines_are_bounded_by_their_bytes() {
        let (let_go, waits) = mpsc::channel();
        let channel = SideChannel::start("long", Stalled(waits));
        let line = vec![b'x'; BYTES_MAX / 4];
        for _ in 0..6 {
            channel.push(&line);
        }
        assert_eq!(channel.lost(), 2);
        channel.push(&vec![b'x'; BYTES_MAX + 1]);
        assert_eq!(channel.lost(), 3);
        drop(let_go);
        assert!(channel.flush_until(Instant::now() + PATIENCE));
        channel.push(&line);
        assert!(channel.flush_until(Instant::now() + PATIENCE));
        assert_eq!(channel.lost(), 3, "there is place again");
    }
}
