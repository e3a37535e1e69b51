//! What an actor weighs that is awake and has nothing to do: the growth of a process's resident memory, by the actor.
//!
//! Each figure comes from a process of its own, which starts that many actors, asks each once and looks at its own size:
//! in one process the memory of the first measurement would serve the second. Linux only: it reads `/proc`.

use std::{env, fs, process::Command};

use crate::{kameo_actors, messages, raw_ractor};

/// The argument that makes this program such a process.
const CHILD: &str = "--idle-memory-child";
/// Awake before the first look: threads, pools and tables have their first memory then.
const WARM_UP: usize = 100;

/// What is weighed.
#[derive(Clone, Copy, Debug)]
pub enum Weighed {
    /// An entity without a disk, that has had one command.
    Entity,
    /// A bare ractor actor that holds a number, that has had one message.
    Ractor,
    /// The same on kameo.
    Kameo,
}

impl Weighed {
    const ALL: [(&'static str, Self); 3] = [("entity", Self::Entity), ("ractor", Self::Ractor), ("kameo", Self::Kameo)];
}

/// Bytes of each of `count` idle actors.
///
/// # Panics
/// When the process that weighs does not start, or fails.
#[must_use]
pub fn bytes_each(weighed: Weighed, count: usize) -> f64 {
    let program = env::current_exe().expect("this program has a path");
    let name = Weighed::ALL[weighed as usize].0;
    let output = Command::new(program).args([CHILD, name, &count.to_string()]).output().expect("the process starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().parse().expect("it prints a number")
}

/// Weighs and prints, when this program was started by [`bytes_each`]; gives true then. To be called first in `main` by every
/// program that calls [`bytes_each`].
///
/// # Panics
/// When the arguments are not those of [`bytes_each`], or `/proc` cannot be read.
#[must_use]
pub fn weigh_if_child() -> bool {
    let arguments: Vec<_> = env::args().skip(1).collect();
    let [child, name, count] = arguments.as_slice() else { return false };
    if child != CHILD {
        return false;
    }
    let (_, weighed) = Weighed::ALL.into_iter().find(|(known, _)| known == name).expect("it is one of those weighed");
    let count = count.parse().expect("it is a number");
    let growth = match weighed {
        Weighed::Entity => messages::growth(WARM_UP, count, resident_bytes),
        Weighed::Ractor => raw_ractor::growth(WARM_UP, count, resident_bytes),
        Weighed::Kameo => kameo_actors::growth(WARM_UP, count, resident_bytes),
    };
    println!("{}", growth as f64 / count as f64);
    true
}

fn resident_bytes() -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("/proc can be read");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("Linux tells the resident size");
    let kibibytes: u64 = line.trim().trim_end_matches(" kB").parse().expect("it is a number");
    kibibytes * 1024
}
