//! Runs the real broker as a Lambda function, behind Lambda's runtime API on loopback.
//!
//! The submodules are the gateways in front of a function.

pub mod events;
pub mod function_url;

use std::collections::HashMap;
use std::fs::File;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::extract::{Path as Segment, State};
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::routing::{get, post};
use serde_json::Value;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use crate::broker::served::system_time;
use crate::process::Process;
use crate::time_limits;

/// A running function. Dropping it kills the process.
pub struct Function {
    process: Mutex<Process>,
    api: Arc<RuntimeApi>,
    queue: mpsc::UnboundedSender<(String, Value)>,
    /// The number of events without an answer.
    open: Mutex<usize>,
    server: JoinHandle<()>,
    log: PathBuf,
}

/// The deadline of an event in Unix seconds, unless the test limits the function: the year 2100.
const NO_DEADLINE: i64 = 4_102_444_800;

struct RuntimeApi {
    events: tokio::sync::Mutex<mpsc::UnboundedReceiver<(String, Value)>>,
    /// The time that each event has, in seconds. Between events the process is frozen then.
    limit: OnceLock<i64>,
    answers: Mutex<HashMap<String, oneshot::Sender<Result<Value, Value>>>>,
    numbers: AtomicU64,
    /// Counts the function's requests for an event.
    asked: watch::Sender<u64>,
}

impl Function {
    /// Starts the program as Lambda does: without arguments, and only with Lambda's variables and
    /// these.
    pub async fn start(program: &Path, variables: &[(&str, &str)], log: &Path) -> Self {
        let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (queue, events) = mpsc::unbounded_channel();
        let api = Arc::new(RuntimeApi {
            events: tokio::sync::Mutex::new(events),
            limit: OnceLock::new(),
            answers: Mutex::default(),
            numbers: AtomicU64::default(),
            asked: watch::Sender::new(0),
        });
        let router = Router::new()
            .route("/2018-06-01/runtime/invocation/next", get(next))
            .route("/2018-06-01/runtime/invocation/{id}/response", post(response))
            .route("/2018-06-01/runtime/invocation/{id}/error", post(error))
            .with_state(Arc::clone(&api));
        let server = tokio::spawn(async { axum::serve(listener, router).await.unwrap() });
        let out = File::create(log).unwrap();
        let mut command = Command::new(program);
        command
            .env_clear()
            .envs(time_limits::VARIABLES)
            .envs(variables.iter().copied())
            .env("AWS_LAMBDA_RUNTIME_API", address.to_string());
        command
            .env("AWS_LAMBDA_FUNCTION_NAME", "stile")
            .env("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST");
        command.env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "256");
        command.stdin(Stdio::null()).stderr(out.try_clone().unwrap()).stdout(out);
        Self {
            process: Mutex::new(Process::start(&mut command)),
            api,
            queue,
            open: Mutex::default(),
            server,
            log: log.to_owned(),
        }
    }

    /// Gives each event that many seconds, and freezes the process after each answer, as Lambda does.
    #[must_use]
    pub fn limited(self, seconds: i64) -> Self {
        self.api.limit.set(seconds).unwrap();
        self
    }

    /// Returns the process id.
    pub fn id(&self) -> u32 {
        self.process.lock().unwrap_or_else(PoisonError::into_inner).id()
    }

    /// Waits until the function has started and asks for its first event.
    pub async fn started(&self) {
        let mut asked = self.api.asked.subscribe();
        let started = time_limits::wait(asked.wait_for(|times| *times > 0)).await;
        assert!(
            started.is_some(),
            "the function ({:?}) does not start:\n{}",
            self.ended(),
            self.log()
        );
    }

    /// Waits until the function ends by itself.
    pub async fn ends(&self) -> std::process::ExitStatus {
        let ended = time_limits::wait(async {
            let mut tick = tokio::time::interval(Duration::from_millis(20));
            loop {
                tick.tick().await;
                if let Some(status) = self.ended() {
                    return status;
                }
            }
        });
        ended.await.unwrap_or_else(|| panic!("the function does not end:\n{}", self.log()))
    }

    /// Sends an event, and returns the function's answer or the error that it reports.
    pub async fn invoke(&self, event: &Value) -> Result<Value, Value> {
        let id = format!(
            "8476a536-e9f4-11e8-9739-{:012}",
            self.api.numbers.fetch_add(1, Ordering::Relaxed)
        );
        let (sender, receiver) = oneshot::channel();
        self.api.answers().insert(id.clone(), sender);
        self.count(1);
        self.queue.send((id, event.clone())).unwrap();
        let answered = time_limits::wait(receiver).await;
        self.count(-1);
        match answered {
            Some(answer) => answer.unwrap(),
            None => panic!("the function ({:?}) does not answer:\n{}", self.ended(), self.log()),
        }
    }

    /// Counts the open events. A limited function is frozen while there is none.
    fn count(&self, change: isize) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        *open = open.checked_add_signed(change).unwrap();
        if self.api.limit.get().is_some() {
            let process = self.process.lock().unwrap_or_else(PoisonError::into_inner);
            if *open == 0 { process.freeze() } else { process.resume() }
        }
    }

    /// Returns the function's output so far.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap()).into_owned()
    }

    fn ended(&self) -> Option<std::process::ExitStatus> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner).ended()
    }
}

impl Drop for Function {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl RuntimeApi {
    fn answers(
        &self,
    ) -> std::sync::MutexGuard<'_, HashMap<String, oneshot::Sender<Result<Value, Value>>>> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn resolve(&self, id: &str, answer: Result<Value, Value>) -> StatusCode {
        match self.answers().remove(id) {
            Some(waiting) => {
                let _ = waiting.send(answer);
                StatusCode::ACCEPTED
            }
            None => StatusCode::BAD_REQUEST,
        }
    }
}

async fn next(State(api): State<Arc<RuntimeApi>>) -> impl IntoResponse {
    api.asked.send_modify(|times| *times += 1);
    let Some((id, event)) = api.events.lock().await.recv().await else {
        return StatusCode::GONE.into_response();
    };
    let limit = api.limit.get();
    let deadline = limit.map_or(NO_DEADLINE, |seconds| system_time() + seconds);
    let deadline = format!("{deadline}000");
    let headers = [
        ("lambda-runtime-aws-request-id", id.as_str()),
        ("lambda-runtime-deadline-ms", deadline.as_str()),
        (
            "lambda-runtime-invoked-function-arn",
            "arn:aws:lambda:us-east-1:111122223333:function:stile",
        ),
        ("content-type", "application/json"),
    ];
    (headers, event.to_string()).into_response()
}

async fn response(
    State(api): State<Arc<RuntimeApi>>,
    Segment(id): Segment<String>,
    body: String,
) -> StatusCode {
    api.resolve(&id, Ok(serde_json::from_str(&body).unwrap()))
}

async fn error(
    State(api): State<Arc<RuntimeApi>>,
    Segment(id): Segment<String>,
    body: String,
) -> StatusCode {
    api.resolve(&id, Err(serde_json::from_str(&body).unwrap()))
}
