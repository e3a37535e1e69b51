//! What a scraper reads: a few numbers in Prometheus' text format.
//!
//! Counters of the edge live here, in memory of this process; those of the services come from the roster. Nothing is
//! decided by them.

use std::fmt::Write as _;

use contracts::Service;
use runtime::roster::{ChildState, CounterReading, Entry};
use warp::http::HeaderValue;
use warp::http::header::CONTENT_TYPE;

use crate::reply::Response;
use crate::shop::Shop;

pub(crate) mod values;

pub use values::{Kind, RequestCounts, Sample};

/// The page of `service`; of the gateway, which has no shards of its own, all of them.
pub(crate) fn page(shop: &Shop, service: Option<Service>) -> Response {
    let name = service.map_or("api-gateway", Service::name);
    let mut text = String::new();
    metric(&mut text, "process_uptime_seconds", "gauge", "How long the process runs.");
    line(&mut text, "process_uptime_seconds", &[("service", name)], shop.started_at.elapsed().as_secs());
    if let Some(bytes) = resident_bytes() {
        metric(&mut text, "process_resident_memory_bytes", "gauge", "Resident memory of the process.");
        line(&mut text, "process_resident_memory_bytes", &[("service", name)], bytes);
    }
    write_samples(&mut text, &(shop.process_samples)());
    let is_shown = |path: &str| service.is_none_or(|service| path.split('/').any(|part| part == service.name()));
    if service.is_none() {
        write_requests(&mut text, shop.requests.reading());
    }
    let readings: Vec<_> = shop.roster.readings().into_iter().filter(|reading| is_shown(&reading.name)).collect();
    write_shards(&mut text, &readings);
    let entries: Vec<_> = shop.roster.entries().into_iter().filter(|entry| is_shown(&entry.path)).collect();
    write_actors(&mut text, &entries);
    let asked: Vec<Service> = service.map_or_else(|| Service::ALL.to_vec(), |service| vec![service]);
    write_samples(&mut text, &shop.bus.samples(&asked));

    let mut response = Response::new(text.into());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8"));
    response
}

fn write_requests(text: &mut String, by_class: [u64; 5]) {
    metric(text, "http_requests_total", "counter", "Answers of the gateway by class of status.");
    for (class, count) in ["1xx", "2xx", "3xx", "4xx", "5xx"].into_iter().zip(by_class) {
        line(text, "http_requests_total", &[("status", class)], count);
    }
}

fn write_shards(text: &mut String, readings: &[CounterReading]) {
    type Column = (&'static str, &'static str, &'static str, fn(&CounterReading) -> u64);
    let columns: [Column; 4] = [
        ("shard_commands_total", "counter", "Commands taken up by a shard.", |reading| reading.handled),
        ("shard_entities_awake", "gauge", "Entities awake in a shard.", |reading| reading.active),
        ("shard_entity_failures_total", "counter", "Entities of a shard that fell.", |reading| reading.failures),
        ("shard_entities_parked", "gauge", "Entities that fall again and again and are left alone.", |reading| {
            reading.parked
        }),
    ];
    for (name, kind, help, value) in columns {
        metric(text, name, kind, help);
        for reading in readings {
            line(text, name, &[("shard", &reading.name)], value(reading));
        }
    }
}

fn write_actors(text: &mut String, entries: &[Entry]) {
    metric(text, "actor_restarts_total", "counter", "How often an actor was started again.");
    for entry in entries {
        line(text, "actor_restarts_total", &[("path", &entry.path)], entry.restarts);
    }
    metric(text, "actor_running", "gauge", "1 while an actor runs.");
    for entry in entries {
        line(text, "actor_running", &[("path", &entry.path)], u64::from(entry.state == ChildState::Running));
    }
}

/// A metric's lines stand together under one heading, as the format wants it.
fn write_samples(text: &mut String, samples: &[Sample]) {
    let mut names: Vec<&str> = Vec::new();
    for sample in samples {
        if names.contains(&sample.name) {
            continue;
        }
        names.push(sample.name);
        let kind = if sample.kind == Kind::Counter { "counter" } else { "gauge" };
        metric(text, sample.name, kind, sample.help);
        for same in samples.iter().filter(|other| other.name == sample.name) {
            let labels: Vec<(&str, &str)> = same.labels.iter().map(|(label, value)| (*label, value.as_str())).collect();
            line(text, sample.name, &labels, same.value);
        }
    }
}

fn metric(text: &mut String, name: &str, kind: &str, help: &str) {
    // Writing to a String cannot fail.
    let _ = writeln!(text, "# HELP microcommerce_{name} {help}\n# TYPE microcommerce_{name} {kind}");
}

fn line(text: &mut String, name: &str, labels: &[(&str, &str)], value: u64) {
    let labels: Vec<String> = labels.iter().map(|(label, value)| format!("{label}=\"{}\"", escape(value))).collect();
    let _ = writeln!(text, "microcommerce_{name}{{{}}} {value}", labels.join(","));
}

fn escape(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// Resident memory of this process as Linux tells it; `None` elsewhere.
fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use warp::http::StatusCode;

    use super::*;

    #[test]
    fn answers_are_counted_by_class() {
        let counts = RequestCounts::default();
        for status in [StatusCode::OK, StatusCode::CREATED, StatusCode::NOT_FOUND, StatusCode::BAD_GATEWAY] {
            counts.count(status);
        }
        assert_eq!(counts.reading(), [0, 2, 0, 1, 1]);
    }

    #[test]
    fn labels_cannot_break_the_page() {
        let mut text = String::new();
        line(&mut text, "x", &[("path", "a\"b\\c\nd")], 7);
        assert_eq!(text, "microcommerce_x{path=\"a\\\"b\\\\c\\nd\"} 7\n");
    }
}
