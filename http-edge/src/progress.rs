//! How far the start of the process has come. The root and the services' starts report it; ports and answers to pings read it.

use std::borrow::Cow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use contracts::Service;
use serde::Serialize;

use crate::error::{ApiError, RETRY_AFTER_SECONDS_DEFAULT};

/// What a service that has not been started is doing.
const WAITS: &str = "waits for its turn";
/// What a service that has been started is doing.
const STARTED: &str = "started";

/// How far the start of one service has come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Step {
    /// Which service.
    pub service: &'static str,
    /// What it is doing, in words.
    pub phase: Cow<'static, str>,
    /// How much of that is done: events, pages or whatever the phase counts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub done: Option<u64>,
    /// Of how much.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total: Option<u64>,
}

/// How far the start has come, service by service; shared by those who report and those who look.
#[derive(Debug)]
pub struct StartProgress {
    steps: Mutex<[Step; 4]>,
    /// What the process as a whole does once its services have started; it has no service of its own.
    afterwards: Mutex<Option<&'static str>>,
    is_over: AtomicBool,
}

impl Default for StartProgress {
    fn default() -> Self {
        let step = |service: Service| Step { service: service.name(), phase: WAITS.into(), done: None, total: None };
        // `Service::index` is the place in `ALL`.
        Self {
            steps: Mutex::new(Service::ALL.map(step)),
            afterwards: Mutex::new(None),
            is_over: AtomicBool::new(false),
        }
    }
}

impl StartProgress {
    /// `service` has begun with something.
    pub fn began(&self, service: Service, phase: impl Into<Cow<'static, str>>) {
        self.set(service, phase.into(), None);
    }

    /// `service` has come so far with something: `done` of `total`.
    pub fn came(&self, service: Service, phase: impl Into<Cow<'static, str>>, done: u64, total: u64) {
        self.set(service, phase.into(), Some((done, total)));
    }

    /// `service` has started.
    pub fn started(&self, service: Service) {
        self.set(service, STARTED.into(), None);
    }

    /// The process does something that is no single service's.
    pub fn began_afterwards(&self, phase: &'static str) {
        *self.afterwards.lock().unwrap_or_else(PoisonError::into_inner) = Some(phase);
    }

    /// The start of the process is over: its ports answer with the shop. A service may start again later.
    pub fn is_over_now(&self) {
        self.is_over.store(true, Ordering::Release);
    }

    /// Whether the ports answer with the shop.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Acquire)
    }

    /// How far these services have come.
    #[must_use]
    pub fn of(&self, services: &[Service]) -> Vec<Step> {
        let steps = self.steps.lock().unwrap_or_else(PoisonError::into_inner);
        services.iter().map(|service| steps[service.index()].clone()).collect()
    }

    /// How far those of these services have come that have not started, or not again.
    #[must_use]
    pub fn unfinished(&self, services: &[Service]) -> Vec<Step> {
        self.of(services).into_iter().filter(|step| step.phase != STARTED).collect()
    }

    fn set(&self, service: Service, phase: Cow<'static, str>, count: Option<(u64, u64)>) {
        let (done, total) = count.unzip();
        let step = Step { service: service.name(), phase, done, total };
        self.steps.lock().unwrap_or_else(PoisonError::into_inner)[service.index()] = step;
    }

    /// Why a port for `services` is not ready, in one sentence.
    pub(crate) fn reason(&self, services: &[Service]) -> String {
        let busy = self.of(services).into_iter().find(|step| step.phase != STARTED && step.phase != WAITS);
        let afterwards = *self.afterwards.lock().unwrap_or_else(PoisonError::into_inner);
        match (busy, afterwards) {
            (Some(Step { service, phase, done: Some(done), total: Some(total) }), _) => {
                format!("the process starts: {service} {phase}, {done} of {total}")
            }
            (Some(Step { service, phase, .. }), _) => format!("the process starts: {service} {phase}"),
            (None, Some(phase)) => format!("the process starts: it {phase}"),
            (None, None) => "the process starts".to_owned(),
        }
    }

    pub(crate) fn refusal(&self, services: &[Service]) -> ApiError {
        let reason = self.reason(services);
        ApiError::unavailable(RETRY_AFTER_SECONDS_DEFAULT)
            .with("reason", &reason)
            .with("progress", &self.of(services))
            .with("reasons", &[&reason])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_names_who_is_busy_and_how_far_it_has_come() {
        let progress = StartProgress::default();
        let all = Service::ALL;
        assert_eq!(progress.reason(&all), "the process starts");
        progress.began(Service::User, "opens its journal");
        assert_eq!(progress.reason(&all), "the process starts: user-service opens its journal");
        progress.started(Service::User);
        progress.came(Service::Order, "projects its views anew", 3, 9);
        assert_eq!(progress.reason(&all), "the process starts: order-service projects its views anew, 3 of 9");
        assert_eq!(progress.reason(&[Service::User]), "the process starts");
        for service in all {
            progress.started(service);
        }
        progress.began_afterwards("sees to the administrator");
        assert_eq!(progress.reason(&all), "the process starts: it sees to the administrator");
    }

    #[test]
    fn every_service_has_its_own_step() {
        let progress = StartProgress::default();
        progress.came(Service::Payment, "reads", 1, 2);
        for step in progress.of(&Service::ALL) {
            assert_eq!(step.done.is_some(), step.service == Service::Payment.name(), "{step:?}");
        }
    }
}
