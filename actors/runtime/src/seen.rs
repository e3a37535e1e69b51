//! Which command ids an entity has seen: the memory behind "a repeat gets the first outcome".

use std::collections::HashSet;

use crate::command::CommandId;

/// The most command ids that one entity keeps in memory, at about 24 bytes each. Beyond it an unknown id is looked up in
/// the journal before it is decided: slower for that entity, never wrong.
pub const SEEN_COMMANDS_MAX: usize = 1 << 20;

/// Whether a command has been here before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// It has: its outcome is in the journal, or on its way there.
    Before,
    /// It has not.
    Never,
    /// Not in memory, and memory does not hold them all: ask the journal.
    Unsure,
}

/// The command ids that an entity has seen.
#[derive(Debug, Default)]
pub struct SeenCommands {
    ids: HashSet<CommandId>,
    is_partial: bool,
}

impl SeenCommands {
    /// What was read from the journal; `is_complete` says whether that is all there is.
    #[must_use]
    pub fn recovered(ids: Vec<CommandId>, is_complete: bool) -> Self {
        Self { ids: ids.into_iter().collect(), is_partial: !is_complete }
    }

    /// Whether `id` has been here before.
    #[must_use]
    pub fn look_up(&self, id: &CommandId) -> Seen {
        if self.ids.contains(id) {
            Seen::Before
        } else if self.is_partial {
            Seen::Unsure
        } else {
            Seen::Never
        }
    }

    /// Remembers `id`, while there is room.
    pub fn remember(&mut self, id: CommandId) {
        if self.ids.len() < SEEN_COMMANDS_MAX {
            self.ids.insert(id);
        } else {
            self.is_partial = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partial_memory_is_never_sure_that_a_command_is_new() {
        let (known, unknown) = (CommandId::from_u128(1), CommandId::from_u128(2));
        let complete = SeenCommands::recovered(vec![known], true);
        let partial = SeenCommands::recovered(vec![known], false);
        assert_eq!((complete.look_up(&known), complete.look_up(&unknown)), (Seen::Before, Seen::Never));
        assert_eq!((partial.look_up(&known), partial.look_up(&unknown)), (Seen::Before, Seen::Unsure));
    }
}
