//! Parking: an entity that falls again and again is left alone for a while.
//!
//! Some entities cannot work: an event in their stream cannot be read, or every command makes them panic. Waking them for
//! each command costs a recovery and a fall each time, and helps nobody. After some falls in a row (no outcome committed in
//! between) the entity is *parked*: whoever asks is told so at once, before any mailbox. When the time is over, or an
//! operator unparks it, it gets one trial; a trial that fails parks it again.
//!
//! One [`Parking`] per shard, owned by the handle, so that it outlives the shard's incarnations. The door asks it before a
//! command is sent, the shard tells it who fell. Falls that the journal caused are not counted: an outage is nobody's
//! poison. It is memory only: after a restart of the process everybody has a clean record.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use serde::Serialize;
use tokio::time::Instant;

use crate::{
    command::now_ms,
    entity::EntityId,
    roster::{Counters, shorten},
};

/// The most entities with a record in one shard, at some 200 bytes each and their failure's text. One more is not watched.
const WATCHED_MAX: usize = 10_000;

/// When an entity is parked, and for how long.
#[derive(Clone, Copy, Debug)]
pub struct ParkingRules {
    /// So many falls in a row…
    pub falls_max: usize,
    /// …within this time, and it is parked.
    pub within: Duration,
    /// How long until its next trial.
    pub parked_for: Duration,
}

impl Default for ParkingRules {
    fn default() -> Self {
        Self { falls_max: 5, within: Duration::from_secs(60), parked_for: Duration::from_secs(30) }
    }
}

/// A parked entity, for an operator's eyes.
#[derive(Clone, Debug, Serialize)]
pub struct ParkedEntity {
    /// Which.
    pub id: EntityId,
    /// How often it fell in a row.
    pub falls: u64,
    /// Why it fell last.
    pub last_failure: String,
    /// Since when it is parked, in milliseconds since the Unix epoch.
    pub since_ms: i64,
    /// How long until its next trial, in milliseconds.
    pub trial_in_ms: u64,
}

/// The record of an entity that fell and has committed nothing since.
#[derive(Debug)]
struct Record {
    /// The falls of late, at most `falls_max` of them.
    recent: VecDeque<Instant>,
    falls: u64,
    last_failure: String,
    parked: Option<Place>,
}

#[derive(Clone, Copy, Debug)]
struct Place {
    since_ms: i64,
    next_trial: Instant,
    /// One command is allowed to wake it.
    is_on_trial: bool,
}

impl Record {
    /// Notes a fall; true when that parks it, or fails its trial.
    fn fell(&mut self, rules: &ParkingRules, reason: &str, now: Instant) -> bool {
        self.falls += 1;
        self.last_failure = shorten(reason);
        self.recent.push_back(now);
        while let Some(&first) = self.recent.front()
            && (self.recent.len() > rules.falls_max || now.duration_since(first) >= rules.within)
        {
            self.recent.pop_front();
        }
        let is_poison = self.recent.len() >= rules.falls_max;
        if self.parked.is_none() && !is_poison {
            return false;
        }
        let since_ms = self.parked.map_or_else(now_ms, |place| place.since_ms);
        self.parked = Some(Place { since_ms, next_trial: now + rules.parked_for, is_on_trial: false });
        true
    }

    fn is_old(&self, rules: &ParkingRules, now: Instant) -> bool {
        self.parked.is_none() && self.recent.back().is_none_or(|&at| now.duration_since(at) >= rules.within)
    }
}

/// Who fell, and who is parked; see the module's text.
#[derive(Debug)]
pub struct Parking {
    rules: ParkingRules,
    records: Mutex<HashMap<EntityId, Record>>,
    /// How many records there are: while it is 0, and that is nearly always, nobody takes the lock.
    watched: AtomicUsize,
    counters: Arc<Counters>,
}

impl Parking {
    pub(crate) fn new(rules: ParkingRules, counters: Arc<Counters>) -> Arc<Self> {
        Arc::new(Self { rules, records: Mutex::default(), watched: AtomicUsize::new(0), counters })
    }

    /// At the door: whether a command may be sent. Once the time is over, one is, as the trial.
    ///
    /// # Errors
    /// How long until the next trial.
    pub(crate) fn admit(&self, id: &EntityId, now: Instant) -> Result<(), Duration> {
        let Some(mut records) = self.records_if_any() else { return Ok(()) };
        let Some(place) = records.get_mut(id).and_then(|record| record.parked.as_mut()) else { return Ok(()) };
        if now < place.next_trial {
            return Err(place.next_trial - now);
        }
        // A trial that is lost on its way, such as with its shard, is followed by another after the same time.
        *place = Place { next_trial: now + self.rules.parked_for, is_on_trial: true, ..*place };
        Ok(())
    }

    /// In the shard: whether the entity may be woken, by what was sent before it was parked or by its trial.
    ///
    /// # Errors
    /// How long until the next trial.
    pub(crate) fn may_wake(&self, id: &EntityId, now: Instant) -> Result<(), Duration> {
        let Some(records) = self.records_if_any() else { return Ok(()) };
        match records.get(id).and_then(|record| record.parked) {
            Some(place) if !place.is_on_trial => Err(place.next_trial.saturating_duration_since(now)),
            _ => Ok(()),
        }
    }

    /// Whether `id` has a record: only then its commits and answers are told here.
    pub(crate) fn is_watched(&self, id: &EntityId) -> bool {
        self.records_if_any().is_some_and(|records| records.contains_key(id))
    }

    /// Notes a fall; true when the entity is parked now.
    pub(crate) fn fell(&self, id: &EntityId, reason: &str, now: Instant) -> bool {
        let mut records = self.lock();
        if !records.contains_key(id) && records.len() >= WATCHED_MAX {
            return false;
        }
        let record = records.entry(Arc::clone(id)).or_insert_with(|| Record {
            recent: VecDeque::new(),
            falls: 0,
            last_failure: String::new(),
            parked: None,
        });
        let is_parked = record.fell(&self.rules, reason, now);
        self.recount(&records);
        is_parked
    }

    /// It committed an outcome: its record is clean.
    pub(crate) fn committed(&self, id: &EntityId) {
        self.remove(id);
    }

    /// It woke and answered without deciding anything. On trial that is enough to end the parking; but its next fall
    /// parks it again.
    pub(crate) fn answered(&self, id: &EntityId) {
        let mut records = self.lock();
        if let Some(record) = records.get_mut(id)
            && record.parked.is_some_and(|place| place.is_on_trial)
        {
            record.parked = None;
            self.recount(&records);
        }
    }

    /// Ends the parking by an operator's word; false where `id` is not parked.
    pub(crate) fn unpark(&self, id: &EntityId) -> bool {
        let is_parked = self.lock().get(id).is_some_and(|record| record.parked.is_some());
        if is_parked {
            self.remove(id);
        }
        is_parked
    }

    /// Who is parked.
    pub(crate) fn parked(&self, now: Instant) -> Vec<ParkedEntity> {
        let records = self.lock();
        let parked = records.iter().filter_map(|(id, record)| {
            record.parked.map(|place| ParkedEntity {
                id: Arc::clone(id),
                falls: record.falls,
                last_failure: record.last_failure.clone(),
                since_ms: place.since_ms,
                trial_in_ms: place.next_trial.saturating_duration_since(now).as_millis() as u64,
            })
        });
        parked.collect()
    }

    /// Forgets whose falls are too long ago to count.
    pub(crate) fn forget_old(&self, now: Instant) {
        let Some(mut records) = self.records_if_any() else { return };
        records.retain(|_, record| !record.is_old(&self.rules, now));
        self.recount(&records);
    }

    fn remove(&self, id: &EntityId) {
        let mut records = self.lock();
        records.remove(id);
        self.recount(&records);
    }

    fn recount(&self, records: &HashMap<EntityId, Record>) {
        self.watched.store(records.len(), Ordering::Release);
        let parked = records.values().filter(|record| record.parked.is_some()).count();
        self.counters.parked.store(parked as u64, Ordering::Relaxed);
    }

    fn records_if_any(&self) -> Option<MutexGuard<'_, HashMap<EntityId, Record>>> {
        (self.watched.load(Ordering::Acquire) > 0).then(|| self.lock())
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<EntityId, Record>> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parking() -> (Arc<Parking>, EntityId, Instant) {
        (Parking::new(ParkingRules::default(), Arc::default()), "a".into(), Instant::now())
    }

    fn fall(parking: &Parking, id: &EntityId, times: usize, now: Instant) -> bool {
        (0..times).fold(false, |_, _| parking.fell(id, "why", now))
    }

    /// At the bound nobody new is watched: it is not parked, whatever it does, and disturbs none that is; a place that is free again is used.
    #[test]
    fn watched_entities_are_bounded() {
        let (parking, _, now) = parking();
        let id = |number: usize| -> EntityId { format!("e-{number}").into() };
        assert_eq!(WATCHED_MAX, 10_000, "the bound that is written down");
        (0..WATCHED_MAX).for_each(|number| assert!(!parking.fell(&id(number), "why", now)));
        assert_eq!(parking.watched.load(Ordering::Relaxed), WATCHED_MAX);
        let one_more = id(WATCHED_MAX);
        assert!(!fall(&parking, &one_more, 100, now) && !parking.is_watched(&one_more), "there is no room for it");
        assert_eq!(parking.watched.load(Ordering::Relaxed), WATCHED_MAX, "and no memory is taken");
        assert!(fall(&parking, &id(0), 4, now), "one that is watched is parked as ever");
        parking.committed(&id(1));
        assert!(fall(&parking, &one_more, 5, now) && parking.is_watched(&one_more), "a place was free");
    }

    #[test]
    fn five_falls_in_a_row_park_and_a_commit_in_between_does_not() {
        let (parking, id, now) = parking();
        assert!(!fall(&parking, &id, 4, now));
        parking.committed(&id);
        assert!(!fall(&parking, &id, 4, now));
        assert!(parking.admit(&id, now).is_ok());
        assert!(parking.fell(&id, "the last", now));
        assert_eq!(parking.admit(&id, now), Err(Duration::from_secs(30)));
        assert_eq!(parking.may_wake(&id, now), Err(Duration::from_secs(30)));
        let parked = parking.parked(now);
        assert_eq!((parked[0].falls, parked[0].last_failure.as_str()), (5, "the last"));
        assert_eq!(parking.counters.parked.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn falls_that_are_far_apart_do_not_park() {
        let (parking, id, start) = parking();
        for number in 0..50 {
            assert!(!parking.fell(&id, "why", start + Duration::from_secs(16) * number));
        }
        parking.forget_old(start + Duration::from_secs(16 * 50 + 60));
        assert!(!parking.is_watched(&id));
    }

    #[test]
    fn only_falls_that_are_long_ago_are_forgotten_and_nobody_who_is_parked() {
        let (parking, id, now) = parking();
        let other: EntityId = "b".into();
        fall(&parking, &id, 5, now);
        parking.fell(&other, "why", now);
        parking.forget_old(now + Duration::from_millis(59_999));
        assert!(parking.is_watched(&id) && parking.is_watched(&other));
        parking.forget_old(now + Duration::from_secs(60));
        assert!(parking.is_watched(&id), "it is parked");
        assert!(!parking.is_watched(&other), "its fall counts no more");
        assert_eq!(parking.parked(now).len(), 1);
    }

    /// The door asks for every command: it must not wait for a lock that nearly never guards anything.
    #[test]
    fn while_nobody_has_fallen_nobody_waits_for_the_lock() {
        let (parking, id, now) = parking();
        let held = parking.lock();
        std::thread::scope(|scope| {
            let (say, heard) = std::sync::mpsc::channel();
            let (parking, id) = (&parking, &id);
            scope.spawn(move || {
                let is_free = parking.admit(id, now).is_ok() && parking.may_wake(id, now).is_ok();
                say.send(is_free && !parking.is_watched(id))
            });
            let answer = heard.recv_timeout(Duration::from_secs(10));
            drop(held);
            assert_eq!(answer, Ok(true));
        });
    }

    #[test]
    fn there_is_one_trial_at_a_time_and_a_failed_one_parks_again() {
        let (parking, id, now) = parking();
        fall(&parking, &id, 5, now);
        let later = now + Duration::from_secs(30);
        assert!(parking.admit(&id, later).is_ok(), "the trial");
        assert!(parking.may_wake(&id, later).is_ok());
        assert_eq!(parking.admit(&id, later), Err(Duration::from_secs(30)), "one is enough");
        assert!(parking.fell(&id, "again", later));
        assert!(parking.may_wake(&id, later).is_err());
        let again = later + Duration::from_secs(30);
        assert!(parking.admit(&id, again).is_ok());
        parking.committed(&id);
        assert!(parking.admit(&id, again).is_ok() && !parking.is_watched(&id));
    }

    #[test]
    fn a_trial_that_only_read_ends_the_parking_and_the_next_fall_parks_again() {
        let (parking, id, now) = parking();
        fall(&parking, &id, 5, now);
        parking.answered(&id);
        assert!(parking.admit(&id, now).is_err(), "an answer that was no trial proves nothing");
        let later = now + Duration::from_secs(30);
        assert!(parking.admit(&id, later).is_ok());
        parking.answered(&id);
        assert!(parking.admit(&id, later).is_ok() && parking.admit(&id, later).is_ok());
        assert!(parking.fell(&id, "again", later));
    }

    #[test]
    fn an_operator_unparks() {
        let (parking, id, now) = parking();
        assert!(!parking.unpark(&id));
        fall(&parking, &id, 5, now);
        assert!(parking.unpark(&id));
        assert!(parking.admit(&id, now).is_ok() && parking.parked(now).is_empty());
    }
}
