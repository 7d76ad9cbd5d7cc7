//! The calls of one connection run in the connection's task. They share its locks, its buffers and its core, and the answers that are ready together go
//! out in one write; with a task for each call these would be passed between threads one by one.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;

use futures::stream::{FuturesUnordered, StreamExt};
use parking_lot::Mutex;

/// How often a task may go on with what is ready before it lets others run.
const ROUNDS: usize = 32;

type Call = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Takes over the calls that a connection begins. There are never more than it may have streams.
#[derive(Clone, Default)]
pub struct InTask(Arc<Mutex<Vec<Call>>>);

impl<F: Future<Output = ()> + Send + 'static> hyper::rt::Executor<F> for InTask {
    fn execute(&self, call: F) {
        self.0.lock().push(Box::pin(call));
    }
}

impl InTask {
    /// Runs a connection together with its calls. Where it ends they end, too: nobody waits for them any more.
    pub async fn drive<T>(&self, connection: impl Future<Output = T>) -> T {
        let mut connection = pin!(connection);
        let mut calls = FuturesUnordered::new();
        let drive = poll_fn(|context| {
            for _ in 0..ROUNDS {
                if let Poll::Ready(ended) = connection.as_mut().poll(context) {
                    return Poll::Ready(ended);
                }
                calls.extend(self.0.lock().drain(..));
                let mut answered = false;
                while let Poll::Ready(Some(())) = calls.poll_next_unpin(context) {
                    answered = true;
                }
                if !answered {
                    return Poll::Pending;
                }
            }
            context.waker().wake_by_ref();
            Poll::Pending
        });
        // Each call that waits for the store counts against what a task may do in one go, which is meant for one.
        tokio::task::unconstrained(drive).await
    }
}

#[cfg(test)]
mod tests {
    use hyper::rt::Executor;
    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn calls_run_while_the_connection_does() {
        let in_task = InTask::default();
        let (first, wait_first) = oneshot::channel();
        let (second, wait_second) = oneshot::channel();
        let calls = in_task.clone();
        let connection = async move {
            calls.execute(async move {
                let _ = second.send(wait_first.await);
            });
            tokio::task::yield_now().await;
            let _ = first.send(7);
            wait_second.await
        };
        assert_eq!(in_task.drive(connection).await, Ok(Ok(7)));
    }
}
