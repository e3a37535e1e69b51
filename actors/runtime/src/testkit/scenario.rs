//! `given(events).when(command).then(events)`: an entity's rules as sentences.
//!
//! Pure: no actor, no journal, no clock. What is expected and what was got are compared and shown as JSON, so that events
//! need no equality of their own and a difference can be read.

use serde::Serialize;

use crate::entity::Entity;

/// An entity to which something has happened.
pub struct Given<E: Entity> {
    state: E::State,
}

/// An entity of which something has been asked.
pub struct When<E: Entity> {
    state: E::State,
    outcome: Result<Vec<E::Event>, E::Refusal>,
}

/// An entity to which `events` have happened.
#[must_use]
pub fn given<E: Entity>(events: impl IntoIterator<Item = E::Event>) -> Given<E> {
    Given { state: E::State::default() }.and(events)
}

impl<E: Entity> Given<E> {
    /// An entity to which nothing has happened.
    #[must_use]
    pub fn nothing() -> Self {
        given([])
    }

    /// To which these have happened as well.
    #[must_use]
    pub fn and(mut self, events: impl IntoIterator<Item = E::Event>) -> Self {
        for event in events {
            E::evolve(&mut self.state, &event);
        }
        self
    }

    /// To which has happened what these commands bring about.
    ///
    /// # Panics
    /// When one of them is refused: a test that builds on it would mean nothing.
    #[must_use]
    #[track_caller]
    pub fn done(mut self, commands: impl IntoIterator<Item = E::Command>) -> Self {
        for (number, command) in commands.into_iter().enumerate() {
            match E::decide(&self.state, command) {
                Ok(events) => self = self.and(events),
                Err(refusal) => fail(&format!("command {number} of what is given was refused"), &[("got", &refusal)]),
            }
        }
        self
    }

    /// Asks it to do `command`.
    #[must_use]
    pub fn when(self, command: E::Command) -> When<E> {
        let outcome = E::decide(&self.state, command);
        When { state: self.state, outcome }
    }

    /// Its state.
    #[must_use]
    pub fn state(&self) -> &E::State {
        &self.state
    }
}

impl<E: Entity> When<E> {
    /// Exactly these events are the outcome. They have happened now: go on with the next `when`.
    ///
    /// # Panics
    /// When the outcome is another.
    #[track_caller]
    pub fn then(self, expected: impl IntoIterator<Item = E::Event>) -> Given<E> {
        let expected: Vec<E::Event> = expected.into_iter().collect();
        match self.outcome {
            Ok(events) if json(&events) == json(&expected) => Given { state: self.state }.and(events),
            Ok(events) => fail("other events than expected", &[("expected", &expected), ("got", &events)]),
            Err(refusal) => fail("refused where events were expected", &[("expected", &expected), ("got", &refusal)]),
        }
    }

    /// It is accepted and there is nothing to do.
    ///
    /// # Panics
    /// When something happens, or when it is refused.
    #[track_caller]
    pub fn then_nothing(self) -> Given<E> {
        self.then([])
    }

    /// This refusal is the outcome, and nothing has happened.
    ///
    /// # Panics
    /// When the outcome is another.
    #[track_caller]
    pub fn then_refused(self, expected: E::Refusal) -> Given<E> {
        match self.outcome {
            Err(refusal) if json(&refusal) == json(&expected) => Given { state: self.state },
            Err(refusal) => fail("refused for another reason", &[("expected", &expected), ("got", &refusal)]),
            Ok(events) => fail("accepted where a refusal was expected", &[("expected", &expected), ("got", &events)]),
        }
    }

    /// The outcome itself, for what the sentences above cannot say.
    #[expect(clippy::missing_errors_doc, reason = "the refusal is what is asked about")]
    pub fn outcome(self) -> Result<Vec<E::Event>, E::Refusal> {
        self.outcome
    }
}

fn json(value: &impl Serialize) -> serde_json::Value {
    serde_json::to_value(value).expect("events and refusals are written as JSON")
}

/// Anything that can be shown as JSON, behind a reference.
trait Shown {
    fn shown(&self) -> String;
}

impl<T: Serialize> Shown for T {
    fn shown(&self) -> String {
        serde_json::to_string_pretty(self).expect("events and refusals are written as JSON")
    }
}

#[track_caller]
#[expect(clippy::panic, reason = "this is how a test fails")]
fn fail(what: &str, parts: &[(&str, &dyn Shown)]) -> ! {
    let parts: String = parts.iter().map(|(name, value)| format!("\n{name}: {}", value.shown())).collect();
    panic!("{what}{parts}");
}
