//! Trying again where that cannot do a thing twice: what only reads always, what writes where the server surely did not do it. Knows no request.

use std::time::Duration;

use store::KvError;
use tonic::{Code, Status};

use super::EtcdKv;
use super::transport::Transport;
use crate::errors;

/// How long a request looks for a server that can answer it: longer than an election takes.
const PATIENCE: Duration = Duration::from_secs(15);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repeat {
    /// Twice is as good as once.
    Always,
    /// Only what did not happen.
    IfNotDone,
}

pub struct Failed {
    pub error: KvError,
    /// The request may have been carried out, or may still be.
    pub is_unknown: bool,
}

impl From<Failed> for KvError {
    fn from(failed: Failed) -> Self {
        failed.error
    }
}

pub fn backoff() -> base::Backoff {
    base::Backoff::new(Duration::from_millis(20), Duration::from_secs(1)).with_jitter(0.2)
}

/// Whether another try, perhaps elsewhere, may succeed: the server said so, or the connection broke.
pub fn is_transient(status: &Status) -> bool {
    status.code() == Code::Unavailable || std::error::Error::source(status).is_some()
}

impl EtcdKv {
    /// Sends a request until it is answered, each time to an endpoint that has not just failed.
    pub(super) async fn attempt<T, F>(&self, repeat: Repeat, mut call: impl FnMut(Transport) -> F) -> Result<T, Failed>
    where
        F: Future<Output = Result<tonic::Response<T>, Status>>,
    {
        let give_up = base::clock::monotonic() + PATIENCE;
        let mut backoff = backoff();
        loop {
            let (transport, trace) = self.transport.traced();
            let status = match call(transport).await {
                Ok(response) => return Ok(response.into_inner()),
                Err(status) => status,
            };
            if !is_transient(&status) {
                return Err(Failed { error: errors::from_status(&status), is_unknown: false });
            }
            self.transport.leave(&trace);
            let is_unknown = !trace.is_unsent() && errors::from_status(&status) != KvError::NoLeader;
            let may_repeat = match repeat {
                Repeat::Always => true,
                // A request for which no endpoint was found has looked for one long enough.
                Repeat::IfNotDone => !is_unknown && !trace.is_unreachable(),
            };
            if !may_repeat || base::clock::monotonic() >= give_up {
                return Err(Failed { error: KvError::Unavailable(status.message().to_owned()), is_unknown });
            }
            tokio::time::sleep(backoff.next_delay()).await;
        }
    }
}
