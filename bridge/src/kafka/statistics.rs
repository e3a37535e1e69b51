//! The few figures that we read from librdkafka's statistics.

use std::collections::HashMap;

use serde::Deserialize;

/// What one report of the statistics says.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Figures {
    /// At least one broker is connected.
    pub(super) is_connected: bool,
    /// How far the log has come in each partition that is read.
    pub(super) partitions: Vec<Progress>,
}

/// One partition's place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Progress {
    pub(super) topic: String,
    pub(super) partition: i32,
    /// The offset of the first record that the log still has; below 0 where that is not known.
    pub(super) first: i64,
    /// The offset after the newest record that may be read.
    pub(super) end: i64,
    /// The offset from which is fetched next.
    pub(super) fetched_to: i64,
    /// Nothing that was fetched waits in the client.
    pub(super) is_queue_empty: bool,
    /// Everything before the end has been fetched, and nothing of it waits in the client.
    pub(super) is_drained: bool,
}

#[derive(Deserialize)]
struct Report {
    #[serde(default)]
    brokers: HashMap<String, Broker>,
    #[serde(default)]
    topics: HashMap<String, Topic>,
}

#[derive(Deserialize)]
struct Broker {
    state: String,
}

#[derive(Deserialize)]
struct Topic {
    topic: String,
    #[serde(default)]
    partitions: HashMap<String, Partition>,
}

#[derive(Deserialize)]
struct Partition {
    partition: i32,
    #[serde(default = "unknown")]
    lo_offset: i64,
    #[serde(default = "unknown")]
    ls_offset: i64,
    #[serde(default = "unknown")]
    hi_offset: i64,
    #[serde(default = "unknown")]
    next_offset: i64,
    #[serde(default)]
    fetchq_cnt: i64,
}

fn unknown() -> i64 {
    -1
}

/// Reads a report; `read_committed` says which end counts. Partitions whose end is not known yet are left out.
pub(super) fn figures(report: &[u8], read_committed: bool) -> Result<Figures, serde_json::Error> {
    let report: Report = serde_json::from_slice(report)?;
    let partitions = report.topics.into_values().flat_map(|topic| {
        let name = topic.topic;
        topic.partitions.into_values().filter_map(move |partition| {
            let end = if read_committed { partition.ls_offset } else { partition.hi_offset };
            (partition.partition >= 0 && end >= 0).then(|| Progress {
                topic: name.clone(),
                partition: partition.partition,
                first: partition.lo_offset,
                end,
                fetched_to: partition.next_offset,
                is_queue_empty: partition.fetchq_cnt == 0,
                is_drained: partition.fetchq_cnt == 0 && partition.next_offset >= end,
            })
        })
    });
    Ok(Figures {
        partitions: partitions.collect(),
        is_connected: report.brokers.values().any(|broker| broker.state == "UP"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_that_counts_is_the_one_up_to_which_may_be_read() {
        let report = br#"{"name":"x","brokers":{"a:1/1":{"state":"DOWN"},"a:2/2":{"state":"UP","nodeid":2}},
            "topics":{"t":{"topic":"t","partitions":{
                "0":{"partition":0,"lo_offset":2,"ls_offset":7,"hi_offset":9,"next_offset":7,"fetchq_cnt":0},
                "1":{"partition":1,"ls_offset":-1001,"hi_offset":-1001},
                "-1":{"partition":-1,"ls_offset":0,"hi_offset":0}}}}}"#;
        let place = |end, is_drained| Progress {
            topic: "t".to_owned(),
            partition: 0,
            first: 2,
            end,
            fetched_to: 7,
            is_queue_empty: true,
            is_drained,
        };
        let committed = figures(report, true).unwrap();
        assert_eq!((committed.is_connected, committed.partitions), (true, vec![place(7, true)]));
        assert_eq!(figures(report, false).unwrap().partitions, [place(9, false)]);
        assert!(!figures(b"{}", true).unwrap().is_connected);
    }
}
