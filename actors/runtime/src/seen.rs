//! Which command ids an entity has seen: the memory behind "a repeat gets the first outcome".
//!
//! It holds the id of every command that made one of the stream's first [`SEEN_COMMANDS_MAX`] versions, with that version:
//! there the journal finds the outcome. The journal itself indexes the ids of all others, so what is not in memory can be
//! looked up.

use std::collections::HashMap;

use crate::command::CommandId;

/// Up to this version of a stream, the ids of the commands that made it are kept in the entity's memory, at some 24 to 48
/// bytes each; and as many ids of commands without events. An id beyond them is looked up in the journal before it is
/// decided: slower for that entity, never wrong. The journal relies on it: do not lower it for files that exist.
pub const SEEN_COMMANDS_MAX: usize = 1 << 20;

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
    ids: HashMap<CommandId, u32>,
    without_version: usize,
    is_partial: bool,
}

impl SeenCommands {
    /// What was read from the journal; `is_complete` says whether that is all there is.
    #[must_use]
    pub fn recovered(seen: Vec<SeenCommand>, is_complete: bool) -> Self {
        let mut recovered = Self { ids: HashMap::with_capacity(seen.len()), ..Self::default() };
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
            Some(first_version) => Seen::Before(Some(u64::from(*first_version))),
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
