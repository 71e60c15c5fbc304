use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::stream::{self, BoxStream, Stream, StreamExt};
use tokio::time::Instant;
use tonic::{Code, Streaming};

use crate::contract::{StreamProgressRequest, StreamProgressResponse};
use crate::reachability::Reachability;
use crate::{Client, Error};

/// The events of a generation, each once, to the last, which has the generation.
///
/// An error is the last item: the task was rejected, or the server stayed out of reach. One that fails ends with an
/// event that has the failure. Dropping the events of [`Client::stream`] early cancels the task.
#[must_use = "nothing is started before the first event is asked for"]
pub struct Events(BoxStream<'static, Result<StreamProgressResponse, Error>>);

impl Events {
    /// The next event; none after the last.
    pub async fn next(&mut self) -> Option<Result<StreamProgressResponse, Error>> {
        self.0.next().await
    }

    pub(crate) fn follow(client: Client, request: StreamProgressRequest) -> Self {
        let follow = Follow {
            reach: Reachability::new(client.reconnect_timeout),
            end: client.timeout.map(|timeout| Instant::now() + timeout),
            client,
            request,
            open: None,
        };
        Self(
            stream::try_unfold(follow, async |mut follow| {
                let event = follow.next().await?;
                Ok(event.map(|event| (event, follow)))
            })
            .boxed(),
        )
    }
}

impl Stream for Events {
    type Item = Result<StreamProgressResponse, Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_next_unpin(context)
    }
}

struct Follow {
    client: Client,
    request: StreamProgressRequest,
    open: Option<Streaming<StreamProgressResponse>>,
    reach: Reachability,
    end: Option<Instant>,
}

impl Follow {
    async fn next(&mut self) -> Result<Option<StreamProgressResponse>, Error> {
        match self.end {
            None => self.next_event().await,
            Some(end) => tokio::time::timeout_at(end, self.next_event()).await.unwrap_or_else(|_| Err(late())),
        }
    }

    async fn next_event(&mut self) -> Result<Option<StreamProgressResponse>, Error> {
        loop {
            match self.receive().await {
                Ok(None) => return Ok(None),
                Ok(Some(event)) if event.sequence <= self.request.after_sequence => {
                    self.reach.answered(); // sent again, to keep the connection open
                }
                Ok(Some(event)) => {
                    self.reach.answered();
                    self.request.after_sequence = event.sequence;
                    return Ok(Some(event));
                }
                Err(error) => {
                    self.open = None;
                    self.reach.wait(error).await?;
                }
            }
        }
    }

    async fn receive(&mut self) -> Result<Option<StreamProgressResponse>, Error> {
        let stream = match &mut self.open {
            Some(stream) => stream,
            closed => {
                let mut request = tonic::Request::new(self.request.clone());
                if let Some(end) = self.end {
                    // The call here ends first, so that it is told from a lost one.
                    request.set_timeout(end - Instant::now() + Duration::from_millis(100));
                }
                closed.insert(self.client.stub.stream_progress(request).await?.into_inner())
            }
        };
        Ok(stream.message().await?)
    }
}

/// The deadline of the caller has passed.
pub(crate) fn late() -> Error {
    Error::new(Code::DeadlineExceeded, "the timeout of the call has passed")
}
