use std::fmt::Write;
use std::time::Duration;

use tonic::{Code, Response, Status};

use crate::contract::stream_progress_request::Target;
use crate::contract::{
    CancelGenerationRequest, CancelGenerationResponse, GenerateRequest, Generation, StreamProgressRequest,
};
use crate::reachability::{jittered, random};
use crate::{Builder, Error, Events, Stub, error};

const ATTEMPTS: u32 = 5;
const FIRST_DELAY: Duration = Duration::from_millis(100);

/// A connection to a server; clones share it.
#[derive(Clone)]
pub struct Client {
    pub(crate) stub: Stub,
    pub(crate) reconnect_timeout: Duration,
    pub(crate) timeout: Option<Duration>,
}

impl Client {
    /// How to reach the server at `http://HOST:PORT`, or `https://HOST:PORT` for TLS.
    pub fn builder(address: impl Into<String>) -> Builder {
        Builder::new(address.into())
    }

    /// All calls of the contract, as generated: for what this layer has no method for. See also [`Client::call`].
    pub fn stub(&self) -> Stub {
        self.stub.clone()
    }

    /// The same connection, whose calls end after `timeout` with [`Code::DeadlineExceeded`].
    pub fn with_timeout(&self, timeout: Duration) -> Self {
        Self { timeout: Some(timeout), ..self.clone() }
    }

    /// Runs a task to its end and returns the generation, which has succeeded.
    ///
    /// # Errors
    ///
    /// It was rejected, has failed or was cancelled; then [`Error::generation_id`] names it.
    pub async fn generate(&self, request: GenerateRequest) -> Result<Generation, Error> {
        let mut events = self.stream(request);
        let mut last = None;
        while let Some(event) = events.next().await {
            last = event?.generation;
        }
        error::outcome(last.ok_or_else(|| Error::new(Code::Internal, "the stream ended without an outcome"))?)
    }

    /// Starts a task and follows it to its end. Dropping the events early cancels the task.
    pub fn stream(&self, mut request: GenerateRequest) -> Events {
        if request.request_id.is_empty() {
            for byte in random::<16>() {
                let _ = write!(request.request_id, "{byte:02x}");
            }
        }
        let inline_outputs = request.inline_outputs;
        let target = Some(Target::Generate(request));
        Events::follow(self.clone(), StreamProgressRequest { target, after_sequence: 0, inline_outputs })
    }

    /// Follows a generation, from the event after the sequence number `after_sequence` on. Dropping the events early
    /// cancels nothing.
    pub fn attach(&self, generation_id: impl Into<String>, after_sequence: u32) -> Events {
        let target = Some(Target::GenerationId(generation_id.into()));
        Events::follow(self.clone(), StreamProgressRequest { target, after_sequence, inline_outputs: false })
    }

    /// Stops a generation; the answer says what was really stopped.
    ///
    /// # Errors
    ///
    /// There is no such generation, or the call has failed.
    pub async fn cancel(&self, generation_id: impl Into<String>) -> Result<CancelGenerationResponse, Error> {
        let request = CancelGenerationRequest { generation_id: generation_id.into(), may_run_again: false };
        self.call(async |mut stub| stub.cancel_generation(request.clone()).await).await
    }

    /// Makes a call of the contract that may be repeated, such as `health`: up to five times while the server is out of
    /// reach, with the delays that it gives.
    ///
    /// # Errors
    ///
    /// What the last attempt has failed with.
    pub async fn call<T>(&self, mut send: impl AsyncFnMut(Stub) -> Result<Response<T>, Status>) -> Result<T, Error> {
        let repeat = async {
            let mut attempt = 0;
            loop {
                let error = match send(self.stub()).await {
                    Ok(answer) => return Ok(answer.into_inner()),
                    Err(status) => Error::from(status),
                };
                attempt += 1;
                let again = matches!(error.code, Code::Unavailable | Code::Cancelled) && attempt < ATTEMPTS;
                match error.pushback().filter(|_| again) {
                    None => return Err(error),
                    Some(delay) => {
                        let doubled = jittered(FIRST_DELAY * (1 << attempt));
                        tokio::time::sleep(delay.unwrap_or(doubled)).await;
                    }
                }
            }
        };
        self.limit(repeat).await
    }

    /// What the call gives, or an error once the time of the client's calls has passed.
    pub(crate) async fn limit<T>(&self, call: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        match self.timeout {
            None => call.await,
            Some(timeout) => tokio::time::timeout(timeout, call).await.unwrap_or_else(|_| Err(crate::events::late())),
        }
    }
}
