//! Which command ids an entity has seen: the memory behind "a repeat gets the first outcome".
//!
//! It holds the id of every command that made one of the stream's first [`SEEN_COMMANDS_MAX`] versions, with that version:
//! there the journal finds the outcome. The journal itself indexes the ids of all others, so what is not in memory can be
//! looked up.

use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
};

use crate::command::CommandId;

/// Up to this version of a stream, the ids of the commands that made it are kept in the entity's memory, at some 24 to 48
/// bytes each; and as many ids of commands without events. An id beyond them is looked up in the journal before it is
/// decided: slower for that entity, never wrong. The journal relies on it: do not lower it for files that exist.
pub const SEEN_COMMANDS_MAX: usize = 1 << 20;

/// How many ids a part of the table holds on average: one is split in less than 0.2 ms.
const PART_IDS: usize = 1 << 11;
/// Parts of the largest table: it holds as many ids with a version as without, [`SEEN_COMMANDS_MAX`] of each.
const PARTS_MAX: usize = 1_025;

/// A command that a stream has seen, and its first version where that is known.
pub type SeenCommand = (CommandId, Option<u64>);

/// Whether a command has been here before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// It has: its outcome is in the journal, or on its way there, at this version where one is given.
    Before(Option<u64>),
    /// It has not.
    Never,
    /// Not in memory, and memory does not hold them all: ask the journal.
    Unsure,
}

/// The command ids that an entity has seen.
#[derive(Debug, Default)]
pub struct SeenCommands {
    /// The first version that each has made; 0 where it made none, or where the journal finds it by its id.
    ids: Ids,
    without_version: usize,
    is_partial: bool,
}

impl SeenCommands {
    /// What was read from the journal; `is_complete` says whether that is all there is.
    #[must_use]
    pub fn recovered(seen: Vec<SeenCommand>, is_complete: bool) -> Self {
        let mut recovered = Self { ids: Ids::with_room_for(seen.len()), ..Self::default() };
        for (id, first_version) in seen {
            recovered.remember(id, first_version);
        }
        recovered.is_partial |= !is_complete;
        recovered
    }

    /// Whether `id` has been here before.
    #[must_use]
    pub fn look_up(&self, id: &CommandId) -> Seen {
        match self.ids.get(id) {
            Some(0) => Seen::Before(None),
            Some(first_version) => Seen::Before(Some(u64::from(first_version))),
            None if self.is_partial => Seen::Unsure,
            None => Seen::Never,
        }
    }

    /// Remembers `id`, unless it is one of those that the journal finds by their ids and there is no more room for them.
    /// `first_version` is that of its events, if it has any.
    pub fn remember(&mut self, id: CommandId, first_version: Option<u64>) {
        match first_version.map(u32::try_from) {
            Some(Ok(version)) if version as usize <= SEEN_COMMANDS_MAX => {
                self.ids.insert(id, version);
            }
            None if self.without_version < SEEN_COMMANDS_MAX => {
                self.without_version += 1;
                self.ids.insert(id, 0);
            }
            _ => self.is_partial = true,
        }
    }
}

/// A hash table that grows a part at a time: "linear hashing" (Litwin, VLDB 1980). A table that grows at once holds its
/// entity up: 30 ms at half a million ids, as measured.
#[derive(Debug)]
struct Ids {
    /// Its parts, each told from the others by the low bits of its ids' hashes.
    parts: Vec<HashMap<CommandId, u32>>,
    count: usize,
    hasher: RandomState,
}

impl Default for Ids {
    fn default() -> Self {
        Self::with_room_for(0)
    }
}

impl Ids {
    fn with_room_for(count: usize) -> Self {
        let part = || HashMap::with_capacity(count.min(PART_IDS));
        let parts = std::iter::repeat_with(part).take((count / PART_IDS + 1).min(PARTS_MAX)).collect();
        Self { parts, count: 0, hasher: RandomState::new() }
    }

    fn get(&self, id: &CommandId) -> Option<u32> {
        self.parts[self.part(id)].get(id).copied()
    }

    fn insert(&mut self, id: CommandId, first_version: u32) {
        let part = self.part(&id);
        self.count += usize::from(self.parts[part].insert(id, first_version).is_none());
        if self.count > self.parts.len() * PART_IDS {
            self.split_one();
        }
    }

    /// Those with a part number that is not there yet are still in the part that it will be split from.
    fn part(&self, id: &CommandId) -> usize {
        let parts = self.parts.len();
        if parts == 1 {
            return 0;
        }
        let number = self.hasher.hash_one(id) as usize & (parts.next_power_of_two() - 1);
        if number < parts { number } else { number - parts.next_power_of_two() / 2 }
    }

    /// Adds a part, and moves to it what is its own.
    fn split_one(&mut self) {
        let added = self.parts.len();
        self.parts.push(HashMap::new());
        let split = added - self.parts.len().next_power_of_two() / 2;
        for (id, first_version) in std::mem::take(&mut self.parts[split]) {
            let part = self.part(&id);
            self.parts[part].insert(id, first_version);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: CommandId = CommandId::from_u128(1);
    const UNKNOWN: CommandId = CommandId::from_u128(2);

    #[test]
    fn a_partial_memory_is_never_sure_that_a_command_is_new() {
        let complete = SeenCommands::recovered(vec![(KNOWN, Some(7))], true);
        let partial = SeenCommands::recovered(vec![(KNOWN, None)], false);
        assert_eq!((complete.look_up(&KNOWN), complete.look_up(&UNKNOWN)), (Seen::Before(Some(7)), Seen::Never));
        assert_eq!((partial.look_up(&KNOWN), partial.look_up(&UNKNOWN)), (Seen::Before(None), Seen::Unsure));
    }

    #[test]
    fn the_table_finds_every_id_while_it_grows_and_its_parts_stay_small() {
        let mut ids = Ids::default();
        let id = |number: u32| CommandId::from_u128(u128::from(number) << 40);
        for number in 1..=100_000 {
            ids.insert(id(number), number);
            ids.insert(id(number), number);
            assert_eq!(ids.get(&id(number / 2)), Some(number / 2).filter(|half| *half > 0));
        }
        assert_eq!(ids.count, 100_000, "a second insert of an id is none");
        assert!((1..=100_000).all(|number| ids.get(&id(number)) == Some(number)));
        assert_eq!(ids.get(&id(100_001)), None);
        let mut recovered = Ids::with_room_for(100_000);
        (1..=100_000).for_each(|number| recovered.insert(id(number), number));
        assert!((1..=100_000).all(|number| recovered.get(&id(number)) == Some(number)));
        assert_eq!(recovered.parts.len(), 100_000 / PART_IDS + 1, "it need not grow");
        let largest = ids.parts.iter().map(HashMap::len).max();
        assert!(largest < Some(3 * PART_IDS), "{largest:?} in one part");
        assert!(ids.parts.len() >= 100_000 / PART_IDS, "{} parts", ids.parts.len());
    }

    #[test]
    fn the_table_has_a_part_for_so_many_ids_and_one_that_is_recovered_has_room_for_all() {
        let mut ids = Ids::default();
        let ids_of = |from: usize, to: usize| (from..to).map(|number| CommandId::from_u128(number as u128));
        for parts in 1..=5 {
            ids_of((parts - 1) * PART_IDS, parts * PART_IDS).for_each(|id| ids.insert(id, 1));
            assert_eq!(ids.parts.len(), parts, "full");
        }
        ids.insert(UNKNOWN, 1);
        assert_eq!(ids.parts.len(), 5, "it is one of them");
        ids.insert(CommandId::from_u128(u128::MAX), 1);
        assert_eq!(ids.parts.len(), 6, "one more is one part more");
        let seen = ids_of(0, 2 * PART_IDS).map(|id| (id, Some(1))).collect();
        assert_eq!(SeenCommands::recovered(seen, true).ids.parts.len(), 3);
        assert_eq!(PARTS_MAX, 2 * SEEN_COMMANDS_MAX / PART_IDS + 1);
        assert_eq!(Ids::with_room_for(2 * SEEN_COMMANDS_MAX).parts.len(), PARTS_MAX);
    }

    #[test]
    fn only_what_the_journal_finds_by_its_id_is_forgotten() {
        let max = SEEN_COMMANDS_MAX as u64;
        let mut seen = SeenCommands::default();
        for number in 0..=max {
            seen.remember(CommandId::from_u128(u128::from(number) + 10), None);
        }
        seen.remember(KNOWN, Some(max));
        assert_eq!(seen.look_up(&KNOWN), Seen::Before(Some(max)), "the journal does not find it by its id");
        seen.remember(UNKNOWN, Some(max + 1));
        assert_eq!(seen.look_up(&UNKNOWN), Seen::Unsure, "the journal finds it by its id");
        assert_eq!(seen.look_up(&CommandId::from_u128(u128::from(max) + 10)), Seen::Unsure);
    }
}
