//! Which log each topic was when this client first met it: a topic that is made again has another identity.
//!
//! **Owns** that memory and when it is next compared. It **belongs to** the source, and ends with its client, which is the reason for it:
//! librdkafka (2.12) keeps the leader epoch of a partition that it reads for as long as it lives, and ignores whatever it is told of an
//! older one. A topic that is made again begins at epoch 0, so a client that has seen one election of the former topic never finds the
//! new one's leader: it says nothing, and reads nothing. Only a new client does.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{ports::SourceFatal, record::TopicPartition};

/// How often the topics' identities are asked for: a topic that was made again and has grown beyond where it was read shows in nothing
/// else.
const ASK_EVERY: Duration = Duration::from_secs(5);

pub(super) struct Identities {
    met: HashMap<Arc<str>, Arc<str>>,
    asked_at: Instant,
    is_asking: bool,
}

impl Identities {
    pub(super) fn new() -> Self {
        Self { met: HashMap::new(), asked_at: Instant::now(), is_asking: false }
    }

    /// The topics whose identities are to be asked for now, if that is due; none while an answer is awaited.
    pub(super) fn due<'a>(&mut self, read: impl Iterator<Item = &'a TopicPartition>) -> Option<Vec<Arc<str>>> {
        if self.is_asking || self.asked_at.elapsed() < ASK_EVERY {
            return None;
        }
        let topics: BTreeSet<Arc<str>> = read.map(|partition| Arc::clone(&partition.topic)).collect();
        if topics.is_empty() {
            return None;
        }
        self.asked_at = Instant::now();
        Some(topics.into_iter().collect())
    }

    pub(super) fn set_asking(&mut self, is_asking: bool) {
        self.is_asking = is_asking;
    }

    /// Takes what the brokers say now.
    ///
    /// # Errors
    /// [`SourceFatal`] when one is not the log that this client met under the name: a client that has not met it is to read it.
    pub(super) fn meet<'a>(
        &mut self,
        now: impl IntoIterator<Item = (&'a str, &'a Arc<str>)>,
    ) -> Result<(), SourceFatal> {
        for (topic, id) in now {
            match self.met.get(topic) {
                None => drop(self.met.insert(topic.into(), Arc::clone(id))),
                Some(met) if met == id => {}
                Some(met) => {
                    return Err(SourceFatal(format!("the topic {topic} was made again: it was {met} and is {id}")));
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_of_another_identity_is_not_for_the_client_that_met_the_former_one() {
        let (first, second): (Arc<str>, Arc<str>) = ("first".into(), "second".into());
        let mut identities = Identities::new();
        for _ in 0..2 {
            identities.meet([("a", &first), ("b", &second)]).unwrap();
        }
        let fatal = identities.meet([("b", &second), ("a", &second)]).unwrap_err();
        assert_eq!(fatal.0, "the topic a was made again: it was first and is second");
        // Nothing is heard of a topic that is away.
        identities.meet([]).unwrap();
        Identities::new().meet([("a", &second)]).unwrap();
    }
}
