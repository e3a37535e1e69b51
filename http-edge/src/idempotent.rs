//! The front before work that must be done once: `Idempotency-Key` as API.md §5 has it.
//!
//! ```text
//! look ─► finished: the stored answer again
//!      └► begin (durable: fingerprint, ids, lease) ─► work under those ids ─► finish (durable: answer) ─► answer
//!                                                                         └► release, when it is not to be remembered
//! ```
//!
//! What is stored lives in an [`Operation`] of the service that owns the work. The work runs in a task of its own: a
//! client that leaves does not leave it half done. An answer leaves only after it is stored, so a key never gives two.
//!
//! A refusal "for now" (one with `Retry-After`) is not stored, nor is what the table of API.md excludes: the next attempt
//! runs again, under the same ids.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use contracts::RequestId;
use futures::FutureExt;
use runtime::command::now_ms;
use runtime::operation::{LEASE_MS, Operation, OperationCommand, OperationEvent, OperationRefusal};
use runtime::{AskError, CommandId, CommandMeta, Entities, RequestContext};
use warp::http::StatusCode;

use crate::correlation::CorrelationId;
use crate::error::{ApiError, RETRY_AFTER_SECONDS_DEFAULT};
use crate::failures::of_ask;
use crate::reply::Response;
use crate::shop::Shop;

mod answer;
mod keyed;

pub(crate) use answer::Answer;
use answer::replay;
pub(crate) use keyed::{Attempt, Keyed};

/// How long the journal may take to store an answer. The work is done by then: who has waited for it waits through a slow moment of the
/// disk too, rather than be told to ask again.
pub(crate) const STORE_PATIENCE: Duration = Duration::from_secs(3);
/// How long it may take to give a lease back before that goes on in the background.
const RELEASE_PATIENCE: Duration = Duration::from_millis(500);
/// A lease that could not be given back because its service is down is tried again this often …
const RELEASE_PAUSE: Duration = Duration::from_millis(500);
/// … and so many times: until it has ended by itself.
const RELEASE_TRIES: u32 = 60;
const _: () = assert!(
    RELEASE_TRIES as u128 * RELEASE_PAUSE.as_millis() >= LEASE_MS as u128,
    "a lease that outlives the tries would shut its key out for no reason"
);

/// Where a service keeps its operations, asked anew each time: the service may have been restarted.
pub(crate) type Operations = fn(&Shop) -> Result<Entities<Operation>, ApiError>;

/// Does `work` once under its key, or gives the stored answer again.
///
/// # Errors
/// What the work refuses; 409 while another attempt is at it; 422 when the key stands for another request; 503 when it is
/// unknown whether the answer was stored.
pub(crate) async fn once<W, F>(
    shop: Arc<Shop>,
    operations: Operations,
    keyed: Keyed,
    ids: Vec<String>,
    request_id: CorrelationId,
    context: RequestContext,
    work: W,
) -> Result<Response, ApiError>
where
    W: FnOnce(Attempt) -> F + Send + 'static,
    F: Future<Output = Result<Answer, ApiError>> + Send + 'static,
{
    let kept = operations(&shop)?;
    let stored = kept.read(keyed.operation_id.as_str(), context.deadline, |state, _| state.clone()).await;
    let stored = stored.map_err(of_ask)?;
    if let Some(result) = stored.answer(now_ms()) {
        return if stored.is_other_request(&keyed.fingerprint) {
            Err(ApiError::idempotency_key_reused())
        } else {
            replay(result)
        };
    }
    let holder = format!("{}:{}", shop.process_id.replace(':', "-"), RequestId::generate());
    let kept: Kept = Arc::new(move || operations(&shop));
    let lease = Lease { kept, operation_id: keyed.operation_id, holder, request_id };
    let task = tokio::spawn(lease.run(keyed.fingerprint, ids, context, work));
    task.await.unwrap_or_else(|error| Err(ApiError::internal(error)))
}

/// True where nothing stands under this key yet: no answer, and no attempt. What can be refused then, without having begun, is
/// refused without a write.
///
/// # Errors
/// 503 when the service that keeps the key does not answer.
pub(crate) async fn is_new(
    shop: &Shop,
    operations: Operations,
    keyed: &Keyed,
    context: &RequestContext,
) -> Result<bool, ApiError> {
    let (kept, now_ms) = (operations(shop)?, now_ms());
    let is_new = kept.read(keyed.operation_id.as_str(), context.deadline, move |state, _| {
        state.fingerprint.is_none() || state.is_forgotten(now_ms)
    });
    is_new.await.map_err(of_ask)
}

/// Whether a refusal is stored and given again.
fn is_remembered(error: &ApiError) -> bool {
    matches!(error.status(), StatusCode::PAYMENT_REQUIRED | StatusCode::CONFLICT | StatusCode::UNPROCESSABLE_ENTITY)
        && !error.is_for_now()
}

/// The operations of the service that owns the work, asked for anew each time.
type Kept = Arc<dyn Fn() -> Result<Entities<Operation>, ApiError> + Send + Sync>;

/// One attempt's hold on an operation.
#[derive(Clone)]
struct Lease {
    kept: Kept,
    operation_id: String,
    holder: String,
    request_id: CorrelationId,
}

impl Lease {
    async fn run<W, F>(
        self,
        fingerprint: String,
        ids: Vec<String>,
        context: RequestContext,
        work: W,
    ) -> Result<Response, ApiError>
    where
        W: FnOnce(Attempt) -> F,
        F: Future<Output = Result<Answer, ApiError>>,
    {
        let attempt = match self.begin(fingerprint, ids, &context).await? {
            Begun::Attempt(attempt) => attempt,
            Begun::Finished(result) => return replay(&result),
        };
        let done = AssertUnwindSafe(async { work(attempt).await }).catch_unwind().await;
        match done.unwrap_or_else(|_panic| Err(ApiError::internal("the work under a key panicked"))) {
            Ok(answer) => self.finish(answer).await,
            Err(error) if is_remembered(&error) => {
                let body = error.to_json(&self.request_id);
                let status = error.status().as_u16();
                self.finish(Answer { status, body, location: None, etag: None }).await
            }
            Err(error) => {
                self.release().await;
                Err(error)
            }
        }
    }

    async fn begin(&self, fingerprint: String, ids: Vec<String>, context: &RequestContext) -> Result<Begun, ApiError> {
        let (holder, now_ms) = (self.holder.clone(), now_ms());
        let begin = OperationCommand::Begin { fingerprint, ids: ids.clone(), holder, now_ms };
        let meta = context.command(CommandId::of(&["begin-operation", &self.holder]));
        let begun = (self.kept)()?.ask(self.operation_id.as_str(), begin, meta).await;
        match begun {
            Ok(accepted) => match accepted.events.into_iter().next() {
                Some(OperationEvent::Begun { ids: begun, .. }) => {
                    Ok(Begun::Attempt(Attempt { is_resumed: begun != ids, ids: begun }))
                }
                other => Err(ApiError::internal(format_args!("an operation that began says {other:?}"))),
            },
            Err(AskError::Refused(OperationRefusal::Finished { result })) => Ok(Begun::Finished(result)),
            Err(AskError::Refused(OperationRefusal::OtherRequest)) => Err(ApiError::idempotency_key_reused()),
            Err(AskError::Refused(OperationRefusal::InProgress)) => Err(ApiError::idempotency_in_progress()),
            Err(error @ (AskError::DeadlineExceeded | AskError::Unavailable)) => {
                // It may have begun: then nobody would know that nobody is at it.
                self.release().await;
                Err(of_ask(error))
            }
            Err(error) => Err(of_ask(error)),
        }
    }

    /// Stores the answer, then gives it.
    async fn finish(&self, answer: Answer) -> Result<Response, ApiError> {
        let result = serde_json::to_string(&answer).map_err(ApiError::internal)?;
        let finish = OperationCommand::Finish { holder: self.holder.clone(), result, now_ms: now_ms() };
        match self.ask("finish-operation", finish, STORE_PATIENCE).await {
            Ok(()) => Ok(answer.into_response()),
            Err(Some(AskError::Refused(_))) => self.given_by_successor().await,
            Err(_) => {
                self.release().await;
                let cause = "the answer was not stored in time";
                Err(ApiError::unavailable(RETRY_AFTER_SECONDS_DEFAULT).because(cause))
            }
        }
    }

    /// This attempt took longer than its lease and another took over: its answer is the answer.
    async fn given_by_successor(&self) -> Result<Response, ApiError> {
        let deadline = tokio::time::Instant::now() + STORE_PATIENCE;
        let operations = (self.kept)()?;
        let stored = operations.read(self.operation_id.as_str(), deadline, |state, _| state.clone()).await;
        match stored.map_err(of_ask)?.answer(now_ms()) {
            Some(result) => replay(result),
            None => Err(ApiError::idempotency_in_progress()),
        }
    }

    /// Gives the lease back, in the background where the service does not answer now.
    async fn release(&self) {
        if self.try_release().await {
            return;
        }
        let lease = self.clone();
        tokio::spawn(async move {
            for _ in 0..RELEASE_TRIES {
                tokio::time::sleep(RELEASE_PAUSE).await;
                if lease.try_release().await {
                    return;
                }
            }
        });
    }

    async fn try_release(&self) -> bool {
        let release = OperationCommand::Release { holder: self.holder.clone() };
        self.ask("release-operation", release, RELEASE_PATIENCE).await.is_ok()
    }

    /// Asks the operation; `None` when its service is down.
    async fn ask(
        &self,
        step: &str,
        command: OperationCommand,
        patience: Duration,
    ) -> Result<(), Option<AskError<OperationRefusal>>> {
        let operations = (self.kept)().map_err(|_| None)?;
        let command_id = CommandId::of(&[step, &self.holder]);
        let meta = CommandMeta::new(command_id, patience).correlated(self.request_id.as_str());
        operations.ask(self.operation_id.as_str(), command, meta).await.map(|_| ()).map_err(Some)
    }
}

/// What beginning came to.
enum Begun {
    Attempt(Attempt),
    Finished(String),
}

#[cfg(test)]
mod tests {
    use ractor::Actor;
    use runtime::supervision::{Supervisor, SupervisorSpec};
    use runtime::testkit::{Faults, MemoryDisk, MemoryJournal};
    use runtime::{Gate, Roster};

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);

    async fn operations() -> Entities<Operation> {
        operations_on(Faults::none()).await
    }

    async fn operations_on(faults: Faults) -> Entities<Operation> {
        let journal = MemoryJournal::open(&MemoryDisk::new("").unwrap(), faults).await.unwrap();
        let roster = Roster::new();
        let kept = Entities::new(journal, &Gate::new(100), runtime::operation::config(), roster.clone());
        let spec = SupervisorSpec::new("operations", kept.shards());
        Supervisor::spawn(None, Supervisor, (spec, roster)).await.unwrap();
        kept
    }

    fn lease(kept: &Entities<Operation>, holder: &str) -> Lease {
        let kept = kept.clone();
        Lease {
            kept: Arc::new(move || Ok(kept.clone())),
            operation_id: "operation".into(),
            holder: holder.into(),
            request_id: CorrelationId::generate(),
        }
    }

    fn context() -> RequestContext {
        RequestContext::new("req_test", PATIENCE)
    }

    fn answer(body: &str) -> Answer {
        Answer { status: 201, body: body.into(), location: None, etag: None }
    }

    #[tokio::test]
    async fn who_is_refused_for_now_gives_the_lease_back_and_the_next_attempt_goes_on_under_the_same_ids() {
        let kept = operations().await;
        let refused = lease(&kept, "p1:a").run("f".into(), vec!["id_1".into()], context(), |attempt| async move {
            assert!(!attempt.is_resumed);
            Err(ApiError::payment_in_progress())
        });
        assert_eq!(refused.await.unwrap_err().status(), 409);
        let done = lease(&kept, "p1:b").run("f".into(), vec!["id_2".into()], context(), |attempt| async move {
            assert_eq!((attempt.is_resumed, attempt.ids), (true, vec!["id_1".to_owned()]));
            Ok(answer("\"done\""))
        });
        assert_eq!(done.await.unwrap().status(), 201, "it is not in progress any more");
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_moment_of_the_disk_costs_nobody_an_answer_that_is_ready() {
        let faults = Faults::none();
        let kept = operations_on(faults.clone()).await;
        let slow = faults.clone();
        let given = lease(&kept, "p1:a").run("f".into(), vec!["id_1".into()], context(), |_| async move {
            slow.delay_commits(Duration::from_secs(2)..=Duration::from_secs(2));
            Ok(answer("\"done\""))
        });
        assert_eq!(given.await.unwrap().status(), 201);
    }

    #[tokio::test]
    async fn an_attempt_whose_lease_another_took_over_gives_the_others_answer() {
        let kept = operations().await;
        let slow = lease(&kept, "p1:a");
        slow.begin("f".into(), vec!["id_1".into()], &context()).await.unwrap();
        let successor = lease(&kept, "p2:b");
        successor.begin("f".into(), vec!["id_2".into()], &context()).await.unwrap();
        let running = slow.finish(answer("\"of the slow one\"")).await.unwrap_err();
        assert_eq!((running.status().as_u16(), running.code()), (409, ApiError::idempotency_in_progress().code()));
        let first = successor.finish(answer("\"of the successor\"")).await.unwrap();
        assert!(!first.headers().contains_key("idempotent-replayed"));
        let given = slow.finish(answer("\"of the slow one, again\"")).await.unwrap();
        assert_eq!(given.headers()["idempotent-replayed"], "true");
        let third = lease(&kept, "p3:c").begin("f".into(), vec![], &context()).await.unwrap();
        assert!(matches!(third, Begun::Finished(result) if result.contains("of the successor")));
    }

    #[test]
    fn what_is_remembered_is_as_the_table_says() {
        let remembered = [
            ApiError::payment_declined("card_declined", "pay_1", false),
            ApiError::reservation_expired(),
            ApiError::invalid_field("amount", "must be the total"),
        ];
        let forgotten = [
            ApiError::malformed("x"),
            ApiError::authentication_required(),
            ApiError::authorization_failed(),
            ApiError::not_found("order"),
            ApiError::payload_too_large(1),
            ApiError::unsupported_media_type(),
            ApiError::rate_limit_exceeded(1),
            ApiError::internal("x"),
            ApiError::unavailable(1),
            ApiError::payment_in_progress(),
            ApiError::idempotency_in_progress(),
            order_service::OrderError::TooMuchUnpaid(order_service::TooMuchUnpaid {
                orders: 10,
                units: 10,
                wanted: 1,
                orders_max: 10,
                units_max: 1_000,
                retry_after_seconds: 60,
            })
            .into(),
        ];
        assert!(remembered.iter().all(is_remembered));
        for error in &forgotten {
            assert!(!is_remembered(error), "{error:?}");
        }
    }
}
