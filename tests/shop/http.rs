//! One request, one answer. A request that got no answer is a value: after `kill -9` that is the normal case.

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use serde_json::value::RawValue;
use ureq::Agent;
use ureq::http::{HeaderMap, Request, StatusCode};

/// No request of this suite is right to take longer.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);
/// How long a patient buyer keeps asking; longer than the 30 s lease of an idempotency key.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two tries of a patient buyer.
const PATIENT_PAUSE: Duration = Duration::from_millis(50);
/// Five hundred buyers keep a connection each.
const IDLE_CONNECTIONS_MAX: usize = 1_000;

/// Somebody who asks: one address, perhaps a token.
#[derive(Clone)]
pub struct Client {
    agent: Agent,
    base: String,
    token: Option<String>,
}

/// A request being put together.
pub struct Call<'a> {
    client: &'a Client,
    method: &'static str,
    path: String,
    headers: Vec<(&'static str, String)>,
    body: Option<String>,
}

/// What came back, whole.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub text: String,
}

impl Client {
    pub fn of_port(port: u16) -> Self {
        let agent = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_idle_connections(IDLE_CONNECTIONS_MAX)
            .max_idle_connections_per_host(IDLE_CONNECTIONS_MAX)
            .timeout_global(Some(ANSWER_WITHIN))
            .build()
            .new_agent();
        Self { agent, base: format!("http://127.0.0.1:{port}"), token: None }
    }

    /// The same connections, signed in.
    pub fn with_token(&self, token: &str) -> Self {
        Self { token: Some(token.to_owned()), ..self.clone() }
    }

    fn call(&self, method: &'static str, path: &str) -> Call<'_> {
        Call { client: self, method, path: path.to_owned(), headers: Vec::new(), body: None }
    }

    pub fn get(&self, path: &str) -> Call<'_> {
        self.call("GET", path)
    }

    /// A POST with a JSON body.
    pub fn post(&self, path: &str, body: impl ToString) -> Call<'_> {
        self.call("POST", path).header("Content-Type", "application/json").body(body)
    }

    /// A PATCH with a JSON body.
    pub fn patch(&self, path: &str, body: impl ToString) -> Call<'_> {
        self.call("PATCH", path).header("Content-Type", "application/json").body(body)
    }

    pub fn delete(&self, path: &str) -> Call<'_> {
        self.call("DELETE", path)
    }
}

impl Call<'_> {
    pub fn header(mut self, name: &'static str, value: &str) -> Self {
        self.headers.retain(|(stated, _)| !stated.eq_ignore_ascii_case(name));
        self.headers.push((name, value.to_owned()));
        self
    }

    /// Sends the version that a write is based on.
    pub fn if_match(self, etag: &str) -> Self {
        self.header("If-Match", etag)
    }

    /// Sends an `Idempotency-Key`.
    pub fn key(self, key: &str) -> Self {
        self.header("Idempotency-Key", key)
    }

    fn body(mut self, body: impl ToString) -> Self {
        self.body = Some(body.to_string());
        self
    }

    /// The answer, or why there is none.
    pub fn try_send(&self) -> Result<Answer, ureq::Error> {
        let mut request = Request::builder().method(self.method).uri(format!("{}{}", self.client.base, self.path));
        for (name, value) in &self.headers {
            request = request.header(*name, value);
        }
        if let Some(token) = &self.client.token {
            request = request.header("Authorization", format!("Bearer {token}"));
        }
        let mut response = match &self.body {
            Some(body) => self.client.agent.run(request.body(body.clone()).map_err(ureq::Error::from)?)?,
            None => self.client.agent.run(request.body(()).map_err(ureq::Error::from)?)?,
        };
        let text = response.body_mut().read_to_string()?;
        Ok(Answer { status: response.status().as_u16(), headers: response.headers().clone(), text })
    }

    /// The answer; none is a failed test.
    pub fn send(&self) -> Answer {
        self.try_send().unwrap_or_else(|error| panic!("{} {} got no answer: {error}", self.method, self.path))
    }

    /// Asks again, as the API tells a client to, while the shop is busy or still at work on the same key.
    pub fn send_patiently(&self) -> Answer {
        let started = Instant::now();
        loop {
            let answer = self.send();
            let come_back = answer.status == StatusCode::SERVICE_UNAVAILABLE.as_u16()
                || (answer.status == 409
                    && matches!(
                        answer.error_code().as_deref(),
                        Some("IDEMPOTENCY_IN_PROGRESS" | "PAYMENT_IN_PROGRESS")
                    ));
            if !come_back || started.elapsed() > PATIENCE {
                return answer;
            }
            thread::sleep(PATIENT_PAUSE);
        }
    }
}

impl Answer {
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text)
            .unwrap_or_else(|error| panic!("{} is not JSON ({error}): {}", self.status, self.text))
    }

    /// This answer, if it has that status.
    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "answered {}", self.text);
        self
    }

    /// The code of the error, if this is one.
    pub fn error_code(&self) -> Option<String> {
        let body: Value = serde_json::from_str(&self.text).ok()?;
        Some(body["error"]["code"].as_str()?.to_owned())
    }

    /// The `error` object, of that status and code, in the frozen shape.
    #[track_caller]
    pub fn expect_error(self, status: u16, code: &str) -> Value {
        assert_eq!(self.error_code().as_deref(), Some(code), "{} {}", self.status, self.text);
        assert_eq!(self.status, status, "answered {}", self.text);
        let error = self.json()["error"].clone();
        assert!(error["message"].as_str().is_some_and(|message| !message.is_empty()), "no message: {error}");
        let request_id = error["request_id"].as_str().unwrap_or_default();
        assert!(request_id.starts_with("req_"), "no request id: {error}");
        assert_eq!(self.header("X-Request-Id"), Some(request_id), "X-Request-Id is the same id");
        error
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().expect("a visible header"))
    }

    /// A field of the body as text.
    #[track_caller]
    pub fn string(&self, field: &str) -> String {
        let body = self.json();
        body[field].as_str().unwrap_or_else(|| panic!("no text {field:?} in {body}")).to_owned()
    }

    /// A field of the body exactly as it was written: `299.90`, not 299.9.
    #[track_caller]
    pub fn raw(&self, field: &str) -> String {
        raw_fields(&self.text).get(field).unwrap_or_else(|| panic!("no {field:?} in {}", self.text)).to_string()
    }

    /// Whether this is the stored answer to an earlier request with the same key.
    pub fn is_replayed(&self) -> bool {
        self.header("Idempotent-Replayed") == Some("true")
    }
}

/// The fields of a JSON object, each exactly as it was written.
#[track_caller]
pub fn raw_fields(text: &str) -> BTreeMap<String, Box<RawValue>> {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("not an object ({error}): {text}"))
}
