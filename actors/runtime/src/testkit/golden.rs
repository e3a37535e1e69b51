//! The golden corpus: every event ever written can still be read, and means what it meant.
//!
//! One directory per kind of entity, two files per event type and schema version:
//!
//! - `order.created.v1.json`: the payload as that version wrote it. It is never changed: journals in the field hold it.
//! - `order.created.v1.now.json`: what it means today, after [`Entity::upcast`], as the present build writes it.
//!
//! And one file per version of the state, `state.v1.v2.digests` (the schema, then [`Entity::STATE_VERSION`]): for each sample a digest of
//! the snapshot of the state that the samples up to it lead to: they are one entity's history, in this order. A state that is written in
//! other bytes under the same version would be misread by a build that trusts the version.
//!
//! A second sample of one type is `order.created.v1.2.json`, and so on. [`check`] compares; run the test with `GOLDEN=write`
//! to add the files that are missing. It overwrites nothing: where a new schema changes what old events mean today, look
//! at the difference, delete the `.now.json` files and write them again.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::{
    entity::{Entity, EventPayload},
    instance::decode_event,
    journal::Recorded,
    snapshot,
};

/// The environment variable; with the value `write` the missing files are written.
pub const WRITE_VARIABLE: &str = "GOLDEN";

/// One sample of every variant of an event enum. Every arm is a pattern and a sample of it; the patterns are one `match`,
/// so a new variant breaks the build here, and the build is whole again once it has a sample.
///
/// ```
/// # use microcommerce_runtime::event_samples;
/// # #[derive(Debug)] enum Moved { Up { by: u32 }, Down {} }
/// let samples = event_samples!(Moved {
///     Moved::Up { .. } => Moved::Up { by: 3 },
///     Moved::Down {} => Moved::Down {},
/// });
/// assert_eq!(samples.len(), 2);
/// ```
#[macro_export]
macro_rules! event_samples {
    ($event:ty { $($pattern:pat => $sample:expr),+ $(,)? }) => {{
        let exhaustive = |event: &$event| match event { $($pattern => ()),+ };
        vec![$({
            let sample: $event = $sample;
            exhaustive(&sample);
            assert!(matches!(sample, $pattern), "the sample of {} is another variant", stringify!($pattern));
            sample
        }),+]
    }};
}

/// Holds the corpus in `directory` against the present build:
/// every payload file is read through [`Entity::upcast`] and means what its `.now.json` says; every sample has a file of
/// the present schema, and is written as that file says.
///
/// # Panics
/// With all that is wrong at once, and what to do about it.
#[track_caller]
#[expect(clippy::panic, reason = "this is how a test fails")]
pub fn check<E: Entity>(directory: &Path, samples: Vec<E::Event>) {
    let is_writing = std::env::var(WRITE_VARIABLE).is_ok_and(|value| value == "write");
    let faults = faults::<E>(directory, &samples, is_writing);
    if !faults.is_empty() {
        panic!("the golden corpus of {:?} in {}:\n- {}", E::KIND, directory.display(), faults.join("\n- "));
    }
}

/// These events as one stream of a journal, written by this build, with what its entity counts beside each.
///
/// # Panics
/// When an event has no JSON.
#[must_use]
pub fn history<E: Entity>(id: &str, events: &[E::Event]) -> Vec<Recorded> {
    let mut state = E::State::default();
    let mut record = |(version, event): (u64, &E::Event)| {
        let published_before = E::published(&state);
        E::evolve(&mut state, event);
        Recorded {
            position: version,
            stream: format!("{}/{id}", E::KIND).into(),
            version,
            event_type: event.event_type().to_owned(),
            schema: E::SCHEMA,
            payload: serde_json::to_string(event).expect("events are written as JSON"),
            at_ms: 1_000,
            correlation_id: None,
            causation_id: None,
            traceparent: None,
            actor: None,
            published_before,
        }
    };
    (1..).zip(events).map(&mut record).collect()
}

/// What is wrong; see [`check`]. With `is_writing` the missing files are written first.
#[must_use]
pub fn faults<E: Entity>(directory: &Path, samples: &[E::Event], is_writing: bool) -> Vec<String> {
    let mut faults = Vec::new();
    if is_writing && let Err(error) = fs::create_dir_all(directory) {
        return vec![format!("cannot be written: {error}")];
    }
    let mut present = BTreeSet::new();
    for (name, sample) in named::<E>(samples) {
        let written = serde_json::to_value(sample).expect("events are written as JSON");
        if let Err(fault) = agree(&directory.join(name.file("")), &written, is_writing, "the payload") {
            faults.push(format!("{fault}; a payload that changes its form needs a new Entity::SCHEMA and an upcast"));
        }
        present.insert(name);
    }
    let files = match names_in(directory) {
        Ok(files) => files,
        Err(error) => return vec![format!("cannot be read: {error}")],
    };
    for name in &files {
        if name.schema > E::SCHEMA {
            faults.push(format!("{}: this build writes schema {} only", name.file(""), E::SCHEMA));
        } else if name.schema == E::SCHEMA && !present.contains(name) {
            faults.push(format!("{}: no sample is of this type: may it not be written any more?", name.file("")));
        }
        if let Err(fault) = means_what_it_meant::<E>(directory, name, is_writing) {
            faults.push(fault);
        }
    }
    faults.extend(states_are_as_written::<E>(directory, samples, is_writing));
    faults
}

/// What is wrong with the snapshots of the states that the samples lead to.
fn states_are_as_written<E: Entity>(directory: &Path, samples: &[E::Event], is_writing: bool) -> Vec<String> {
    let shown = format!("state.v{}.v{}.digests", E::SCHEMA, E::STATE_VERSION);
    let text = match fs::read_to_string(directory.join(&shown)) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => return vec![format!("{shown}: {error}")],
    };
    let mut written: BTreeMap<String, String> = text
        .lines()
        .filter_map(|line| line.split_once(' '))
        .map(|(name, digest)| (name.into(), digest.into()))
        .collect();
    let (mut faults, mut is_changed) = (Vec::new(), false);
    for (name, digest) in digests::<E>(samples) {
        match written.get(&name) {
            Some(known) if *known == digest => {}
            Some(_) => faults.push(format!(
                "{shown}: the state after {name} is written in other bytes; a state that changes its form needs a new \
                 Entity::STATE_VERSION (where only the samples are others, delete the line and write it with \
                 {WRITE_VARIABLE}=write)"
            )),
            None if is_writing => is_changed = written.insert(name, digest).is_none(),
            None => faults.push(format!("{shown}: nothing is said of {name}: write it with {WRITE_VARIABLE}=write")),
        }
    }
    if is_changed {
        let text: String = written.iter().map(|(name, digest)| format!("{name} {digest}\n")).collect();
        faults.extend(fs::write(directory.join(&shown), text).err().map(|error| format!("{shown}: {error}")));
    }
    faults
}

/// The samples with the names of their files, less what ends them.
fn named<E: Entity>(samples: &[E::Event]) -> Vec<(Name, &E::Event)> {
    let mut seen: BTreeMap<&str, u32> = BTreeMap::new();
    let mut name = |sample: &E::Event| {
        let event_type = sample.event_type();
        let number = *seen.entry(event_type).and_modify(|number| *number += 1).or_insert(1);
        Name { event_type: event_type.to_owned(), schema: E::SCHEMA, number }
    };
    samples.iter().map(|sample| (name(sample), sample)).collect()
}

/// A name and a digest for the state after each sample, the ones before it included.
fn digests<E: Entity>(samples: &[E::Event]) -> BTreeMap<String, String> {
    let mut state = E::State::default();
    let mut after = |(name, event): (Name, &E::Event)| {
        E::evolve(&mut state, event);
        let bytes = snapshot::encode::<E>(&state).expect("every state has a snapshot");
        let digest = Sha256::digest(bytes).iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        (name.file("").replace(".json", ""), digest)
    };
    named::<E>(samples).into_iter().map(&mut after).collect()
}

fn means_what_it_meant<E: Entity>(directory: &Path, name: &Name, is_writing: bool) -> Result<(), String> {
    let file = directory.join(name.file(""));
    let payload = fs::read_to_string(&file).map_err(|error| format!("{}: {error}", file.display()))?;
    let recorded = Recorded {
        position: 1,
        stream: format!("{}/golden", E::KIND).into(),
        version: 1,
        event_type: name.event_type.clone(),
        schema: name.schema,
        payload,
        at_ms: 0,
        correlation_id: None,
        causation_id: None,
        traceparent: None,
        actor: None,
        published_before: None,
    };
    let event = decode_event::<E>(&recorded).map_err(|error| format!("{}: {error}", name.file("")))?;
    let now = serde_json::to_value(&event).expect("events are written as JSON");
    agree(&directory.join(name.file(".now")), &now, is_writing, "today's meaning")
}

/// The file says `value`; where it is missing it is written, if that is asked for.
fn agree(file: &Path, value: &Value, is_writing: bool, what: &str) -> Result<(), String> {
    let shown = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
    if !file.exists() {
        if !is_writing {
            return Err(format!("{shown} is missing: write it with {WRITE_VARIABLE}=write"));
        }
        let text = serde_json::to_string_pretty(value).expect("a value is JSON") + "\n";
        return fs::write(file, text).map_err(|error| format!("{shown}: {error}"));
    }
    let text = fs::read_to_string(file).map_err(|error| format!("{shown}: {error}"))?;
    let golden: Value = serde_json::from_str(&text).map_err(|error| format!("{shown}: {error}"))?;
    if golden == *value {
        return Ok(());
    }
    Err(format!("{shown}: {what} differs\n  in the file: {golden}\n  of the build: {value}"))
}

/// A payload file's name, in its parts.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Name {
    event_type: String,
    schema: u32,
    number: u32,
}

impl Name {
    fn file(&self, suffix: &str) -> String {
        let Self { event_type, schema, number } = self;
        match number {
            1 => format!("{event_type}.v{schema}{suffix}.json"),
            _ => format!("{event_type}.v{schema}.{number}{suffix}.json"),
        }
    }

    /// The parts of `file`; nothing for a `.now.json`.
    fn parse(file: &str) -> Option<Self> {
        let stem = file.strip_suffix(".json")?;
        let (rest, last) = stem.rsplit_once('.')?;
        if let Some(schema) = schema_of(last) {
            return Some(Self { event_type: rest.to_owned(), schema, number: 1 });
        }
        let number = last.parse().ok()?;
        let (event_type, schema) = rest.rsplit_once('.')?;
        Some(Self { event_type: event_type.to_owned(), schema: schema_of(schema)?, number })
    }
}

fn schema_of(part: &str) -> Option<u32> {
    part.strip_prefix('v')?.parse().ok()
}

fn names_in(directory: &Path) -> std::io::Result<BTreeSet<Name>> {
    let mut names = BTreeSet::new();
    for entry in fs::read_dir(directory)? {
        if let Some(name) = Name::parse(&entry?.file_name().to_string_lossy()) {
            names.insert(name);
        }
    }
    Ok(names)
}
