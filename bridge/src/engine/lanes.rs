//! Order per key: one queue (*lane*) for each key that has records now, at most one delivery of each lane on its way.
//!
//! Lanes are by the full key, never by its hash alone, so a slow key holds back no other. A record without a key has a lane
//! of its own. A lane exists only while it holds entries: memory follows the records that are here, which the credits bound,
//! not the keys that ever were. Owned by one [`PartitionCore`](super::partition_core::PartitionCore).

use std::{collections::VecDeque, hash::BuildHasher, sync::LazyLock};

use bytes::Bytes;
use foldhash::fast::RandomState;
use hashbrown::HashTable;

/// A lane's place. It stays the same while the lane holds entries and is used again afterwards.
pub type LaneId = u32;

/// One for the whole process: a key has the same hash in every partition and every epoch.
static HASHER: LazyLock<RandomState> = LazyLock::new(RandomState::default);

/// Ends a chain of nodes.
const NONE: u32 = u32::MAX;

/// What a lane does now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LaneState {
    /// Waits for its turn.
    Ready,
    /// Its first `count` entries are on their way; `unsettled` of these have not come back.
    Delivered {
        /// How many.
        count: u32,
        /// How many of them have not come back.
        unsettled: u32,
    },
    /// Whoever holds it will call [`KeyLanes::make_ready`] or [`KeyLanes::release`].
    Held(Hold),
}

/// Why a lane is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// Its first entry waits to be tried again.
    Retry,
    /// Its first entry is being written to the dead letters.
    DeadLetter,
    /// Its first entry stopped the partition.
    Halt,
}

#[derive(Debug)]
struct Lane {
    head: u32,
    tail: u32,
    length: u32,
    state: LaneState,
    /// Its key and the key's hash; nothing for a record without a key.
    key: Option<(Bytes, u64)>,
}

#[derive(Debug)]
struct Node<T> {
    /// `None` while the node is free.
    entry: Option<T>,
    next: u32,
}

/// The lanes of one partition.
#[derive(Debug)]
pub struct KeyLanes<T> {
    lanes: Vec<Lane>,
    free_lanes: Vec<LaneId>,
    nodes: Vec<Node<T>>,
    free_nodes: Vec<u32>,
    /// The keyed lanes, by their keys' hashes. The keys are in the lanes, so a lane closes without a look at its key.
    by_key: HashTable<LaneId>,
    ready: VecDeque<LaneId>,
    entries: usize,
}

impl<T> Default for KeyLanes<T> {
    fn default() -> Self {
        Self {
            lanes: Vec::new(),
            free_lanes: Vec::new(),
            nodes: Vec::new(),
            free_nodes: Vec::new(),
            by_key: HashTable::new(),
            ready: VecDeque::new(),
            entries: 0,
        }
    }
}

impl<T> KeyLanes<T> {
    /// Puts an entry at the end of its key's lane, or into a lane of its own.
    pub fn push(&mut self, key: Option<&Bytes>, entry: T) {
        let lane = match key {
            Some(key) => {
                let hash = HASHER.hash_one(&key[..]);
                let lanes = &self.lanes;
                let is_of = |lane: &LaneId| lanes[*lane as usize].key.as_ref().is_some_and(|(other, _)| other == key);
                match self.by_key.find(hash, is_of) {
                    Some(lane) => *lane,
                    None => self.open(Some((key.clone(), hash))),
                }
            }
            None => self.open(None),
        };
        let node = self.node(entry, NONE);
        let place = &mut self.lanes[lane as usize];
        match place.tail {
            NONE => place.head = node,
            tail => self.nodes[tail as usize].next = node,
        }
        place.tail = node;
        place.length += 1;
    }

    /// The lane whose turn it is. It is in nobody's hands until it is delivered, held or made ready again.
    pub fn next_ready(&mut self) -> Option<LaneId> {
        self.ready.pop_front()
    }

    /// True when no lane waits for its turn.
    #[must_use]
    pub fn none_is_ready(&self) -> bool {
        self.ready.is_empty()
    }

    /// The first entry.
    #[must_use]
    pub fn head(&self, lane: LaneId) -> Option<&T> {
        let head = self.lanes.get(lane as usize)?.head;
        self.nodes.get(head as usize)?.entry.as_ref()
    }

    /// The hash of the lane's key, the same for this key everywhere in this process; nothing for a record without a key.
    #[must_use]
    pub fn key_hash(&self, lane: LaneId) -> Option<u64> {
        self.lanes.get(lane as usize)?.key.as_ref().map(|(_, hash)| *hash)
    }

    /// The entries of a lane, first to last.
    pub fn entries_mut(&mut self, lane: LaneId, mut each: impl FnMut(&mut T) -> bool) {
        let mut node = self.lanes.get(lane as usize).map_or(NONE, |lane| lane.head);
        while let Some(Node { entry: Some(entry), next }) = self.nodes.get_mut(node as usize) {
            if !each(entry) {
                return;
            }
            node = *next;
        }
    }

    /// The first `count` entries are on their way from now on.
    pub fn deliver(&mut self, lane: LaneId, count: u32) {
        let lane = &mut self.lanes[lane as usize];
        debug_assert!(count > 0 && count <= lane.length);
        lane.state = LaneState::Delivered { count, unsettled: count };
    }

    /// What the lane does now; nothing when there is no such lane.
    #[must_use]
    pub fn state(&self, lane: LaneId) -> Option<LaneState> {
        self.lanes.get(lane as usize).filter(|lane| lane.length > 0).map(|lane| lane.state)
    }

    /// One of the entries on their way has come back; how many have not.
    pub fn came_back(&mut self, lane: LaneId) -> u32 {
        match &mut self.lanes[lane as usize].state {
            LaneState::Delivered { unsettled, .. } => {
                *unsettled -= 1;
                *unsettled
            }
            LaneState::Ready | LaneState::Held(_) => 0,
        }
    }

    /// Takes the first entry out. The lane must be released, held or made ready afterwards.
    pub fn pop(&mut self, lane: LaneId) -> Option<T> {
        let place = self.lanes.get_mut(lane as usize)?;
        let node = self.nodes.get_mut(place.head as usize)?;
        let entry = node.entry.take()?;
        self.free_nodes.push(place.head);
        place.head = node.next;
        place.length -= 1;
        if place.head == NONE {
            place.tail = NONE;
        }
        self.entries -= 1;
        Some(entry)
    }

    /// Takes the first entry out, which came back, while others of its batch may be on their way.
    pub fn pop_delivered(&mut self, lane: LaneId) -> Option<T> {
        if let Some(Lane { state: LaneState::Delivered { count, .. }, .. }) = self.lanes.get_mut(lane as usize) {
            *count = count.saturating_sub(1);
        }
        self.pop(lane)
    }

    /// Puts an entry back in front.
    pub fn push_front(&mut self, lane: LaneId, entry: T) {
        let node = self.node(entry, self.lanes[lane as usize].head);
        let lane = &mut self.lanes[lane as usize];
        lane.head = node;
        if lane.tail == NONE {
            lane.tail = node;
        }
        lane.length += 1;
    }

    /// Holds the lane.
    pub fn hold(&mut self, lane: LaneId, hold: Hold) {
        self.lanes[lane as usize].state = LaneState::Held(hold);
    }

    /// Puts the lane, which holds entries, at the end of those that wait for their turn.
    pub fn make_ready(&mut self, lane: LaneId) {
        self.lanes[lane as usize].state = LaneState::Ready;
        self.ready.push_back(lane);
    }

    /// After entries were taken out: the lane waits for its turn again, or is closed when it is empty.
    pub fn release(&mut self, lane: LaneId) {
        let place = &mut self.lanes[lane as usize];
        if place.length > 0 {
            return self.make_ready(lane);
        }
        if let Some((_, hash)) = place.key.take()
            && let Ok(found) = self.by_key.find_entry(hash, |other| *other == lane)
        {
            found.remove();
        }
        self.free_lanes.push(lane);
    }

    /// How many lanes hold entries.
    #[must_use]
    pub fn lanes(&self) -> usize {
        self.lanes.len() - self.free_lanes.len()
    }

    /// How many entries are in all lanes, those on their way among them.
    #[must_use]
    pub fn entries(&self) -> usize {
        self.entries
    }

    /// Every lane that holds entries: its state and its first entry.
    pub fn heads(&self) -> impl Iterator<Item = (LaneState, &T)> {
        self.lanes.iter().filter(|lane| lane.length > 0).filter_map(|lane| {
            let head = self.nodes.get(lane.head as usize)?.entry.as_ref()?;
            Some((lane.state, head))
        })
    }

    fn open(&mut self, key: Option<(Bytes, u64)>) -> LaneId {
        let hash = key.as_ref().map(|(_, hash)| *hash);
        let lane = Lane { head: NONE, tail: NONE, length: 0, state: LaneState::Ready, key };
        let id = match self.free_lanes.pop() {
            Some(id) => {
                self.lanes[id as usize] = lane;
                id
            }
            None => {
                self.lanes.push(lane);
                // Credits keep this far below the range of the number.
                (self.lanes.len() - 1) as LaneId
            }
        };
        if let Some(hash) = hash {
            let lanes = &self.lanes;
            let hash_of = |lane: &LaneId| lanes[*lane as usize].key.as_ref().map_or(0, |(_, hash)| *hash);
            self.by_key.insert_unique(hash, id, hash_of);
        }
        self.ready.push_back(id);
        id
    }

    fn node(&mut self, entry: T, next: u32) -> u32 {
        self.entries += 1;
        let node = Node { entry: Some(entry), next };
        match self.free_nodes.pop() {
            Some(id) => {
                self.nodes[id as usize] = node;
                id
            }
            None => {
                self.nodes.push(node);
                (self.nodes.len() - 1) as u32
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum Step {
        Push(Option<u8>),
        Deliver { batch_max: u32 },
        Finish { pick: prop::sample::Index, retry_first: bool },
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            3 => prop::option::weighted(0.8, 0_u8..6).prop_map(Step::Push),
            2 => (1_u32..4).prop_map(|batch_max| Step::Deliver { batch_max }),
            2 => (any::<prop::sample::Index>(), any::<bool>())
                .prop_map(|(pick, retry_first)| Step::Finish { pick, retry_first }),
        ]
    }

    #[test]
    fn a_lane_that_holds_nothing_is_none_and_waits_for_no_turn() {
        let mut lanes = KeyLanes::default();
        assert!(lanes.none_is_ready() && lanes.state(0).is_none() && lanes.head(0).is_none());
        lanes.push(Some(&Bytes::from_static(b"a")), 1);
        assert!(!lanes.none_is_ready());
        let lane = lanes.next_ready().unwrap();
        assert!(lanes.none_is_ready(), "its turn has come");
        assert_eq!((lanes.state(lane), lanes.head(lane)), (Some(LaneState::Ready), Some(&1)));
        lanes.deliver(lane, 1);
        assert_eq!(lanes.pop_delivered(lane), Some(1));
        lanes.release(lane);
        assert_eq!((lanes.state(lane), lanes.head(lane), lanes.lanes()), (None, None, 0));
    }

    type Entry = (Option<Bytes>, u64);

    proptest! {
        /// Against a plain queue per key.
        #[test]
        fn a_key_has_one_delivery_on_its_way_and_its_entries_leave_in_order(steps in prop::collection::vec(step(), 1..400)) {
            let mut lanes = KeyLanes::<Entry>::default();
            let mut truth: BTreeMap<Bytes, VecDeque<u64>> = BTreeMap::new();
            let mut on_their_way: Vec<LaneId> = Vec::new();
            let (mut number, mut inside) = (0, 0);
            for step in steps {
                match step {
                    Step::Push(key) => {
                        let key = key.map(|key| Bytes::copy_from_slice(&[key]));
                        lanes.push(key.as_ref(), (key.clone(), number));
                        if let Some(key) = key {
                            truth.entry(key).or_default().push_back(number);
                        }
                        number += 1;
                        inside += 1;
                    }
                    Step::Deliver { batch_max } => {
                        let Some(lane) = lanes.next_ready() else { continue };
                        let mut batch = Vec::new();
                        lanes.entries_mut(lane, |entry| {
                            batch.push(entry.clone());
                            batch.len() < batch_max as usize
                        });
                        lanes.deliver(lane, batch.len() as u32);
                        prop_assert!(!on_their_way.contains(&lane));
                        on_their_way.push(lane);
                        if let Some(key) = &batch[0].0 {
                            let numbers: Vec<u64> = batch.iter().map(|(_, number)| *number).collect();
                            prop_assert!(truth[key].iter().take(numbers.len()).eq(numbers.iter()));
                        } else {
                            prop_assert_eq!(batch.len(), 1);
                        }
                    }
                    Step::Finish { pick, retry_first } => {
                        if on_their_way.is_empty() {
                            continue;
                        }
                        let lane = on_their_way.swap_remove(pick.index(on_their_way.len()));
                        let Some(LaneState::Delivered { count, .. }) = lanes.state(lane) else { panic!("not delivered") };
                        let mut batch: Vec<Entry> = (0..count).map(|_| lanes.pop(lane).unwrap()).collect();
                        let key = batch[0].0.clone();
                        if retry_first {
                            let first = batch.remove(0);
                            lanes.push_front(lane, first);
                        }
                        for (_, number) in batch {
                            inside -= 1;
                            if let Some(key) = &key {
                                truth.get_mut(key).unwrap().retain(|other| *other != number);
                            }
                        }
                        lanes.release(lane);
                    }
                }
                prop_assert_eq!(lanes.entries(), inside);
                prop_assert_eq!(lanes.heads().count(), lanes.lanes());
            }
        }
    }
}
