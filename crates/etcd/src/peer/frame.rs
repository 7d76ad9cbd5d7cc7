//! Messages on a stream: each is its length as four bytes, big-endian, and its bytes. Knows nothing of what they mean.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use http_body::{Body, Frame};
use http_body_util::BodyExt;
use tokio::sync::mpsc;

const HEAD: usize = 4;
/// Small messages travel together up to this size.
const BATCH: usize = 16 << 10;
/// What a peer may send as one message (rafthttp's readBytesLimit). Memory is taken only as bytes arrive.
const LIMIT: usize = 512 << 20;

/// Messages from a queue as the body of a request. Ends with the queue.
pub struct Outgoing {
    queue: mpsc::Receiver<Bytes>,
    /// Bytes of the messages in the queue.
    queued: Arc<AtomicUsize>,
    /// A large message whose length went out.
    pending: Option<Bytes>,
}

impl Outgoing {
    pub fn new(queue: mpsc::Receiver<Bytes>, queued: Arc<AtomicUsize>) -> Self {
        Self { queue, queued, pending: None }
    }

    /// Adds a message to what goes out now, or its length where it is large.
    fn put(&mut self, out: &mut BytesMut, message: Bytes) {
        self.queued.fetch_sub(message.len(), Ordering::Relaxed);
        out.put_u32(u32::try_from(message.len()).expect("send refuses larger ones"));
        if message.len() < BATCH {
            out.extend_from_slice(&message);
        } else {
            self.pending = Some(message);
        }
    }
}

/// Whether a message of this size can be sent at all.
pub fn fits(bytes: usize) -> bool {
    bytes <= LIMIT
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let this = &mut *self;
        if let Some(message) = this.pending.take() {
            return Poll::Ready(Some(Ok(Frame::data(message))));
        }
        let Some(first) = ready!(this.queue.poll_recv(context)) else { return Poll::Ready(None) };
        let mut out = BytesMut::with_capacity((HEAD + first.len()).min(BATCH));
        this.put(&mut out, first);
        while this.pending.is_none() && out.len() < BATCH {
            let Ok(next) = this.queue.try_recv() else { break };
            this.put(&mut out, next);
        }
        Poll::Ready(Some(Ok(Frame::data(out.freeze()))))
    }
}

/// The messages of a body.
pub struct Incoming<B> {
    body: B,
    buffer: BytesMut,
}

impl<B> Incoming<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: std::fmt::Display,
{
    pub fn new(body: B) -> Self {
        Self { body, buffer: BytesMut::new() }
    }

    /// The next message; `None` where the body ends after a whole one.
    pub async fn next(&mut self) -> Result<Option<Bytes>, String> {
        loop {
            if let Some(message) = self.whole()? {
                return Ok(Some(message));
            }
            match self.body.frame().await {
                Some(Ok(frame)) => {
                    if let Some(data) = frame.data_ref() {
                        self.buffer.extend_from_slice(data);
                    }
                }
                Some(Err(error)) => return Err(error.to_string()),
                None if self.buffer.is_empty() => return Ok(None),
                None => return Err("the stream ended inside a message".into()),
            }
        }
    }

    fn whole(&mut self) -> Result<Option<Bytes>, String> {
        let Some(head) = self.buffer.first_chunk::<HEAD>() else { return Ok(None) };
        let length = u32::from_be_bytes(*head) as usize;
        if length > LIMIT {
            return Err(format!("a message of {length} bytes is too large"));
        }
        if self.buffer.len() < HEAD + length {
            return Ok(None);
        }
        self.buffer.advance(HEAD);
        Ok(Some(self.buffer.split_to(length).freeze()))
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::{Full, StreamBody};

    use super::*;

    #[tokio::test]
    async fn messages_come_out_as_they_went_in() {
        let (sender, queue) = mpsc::channel(16);
        let messages: Vec<Bytes> = [0, 1, 100, BATCH - 1, BATCH, 3 * BATCH, 5].map(|size| Bytes::from(vec![7; size])).into();
        let queued = Arc::new(AtomicUsize::new(messages.iter().map(Bytes::len).sum()));
        for message in &messages {
            sender.try_send(message.clone()).unwrap();
        }
        drop(sender);
        let mut incoming = Incoming::new(Outgoing::new(queue, queued.clone()));
        for expected in messages {
            assert_eq!(incoming.next().await, Ok(Some(expected)));
        }
        assert_eq!(incoming.next().await, Ok(None));
        assert_eq!(queued.load(Ordering::Relaxed), 0);
    }

    #[tokio::test]
    async fn pieces_of_any_size() {
        let pieces =
            [&[0, 0][..], &[0, 2, 1], &[2, 0, 0, 0, 1], &[9]].map(|piece| Ok::<_, Infallible>(Frame::data(Bytes::from_static(piece))));
        let mut incoming = Incoming::new(StreamBody::new(futures::stream::iter(pieces)));
        assert_eq!(incoming.next().await.unwrap().unwrap(), &[1, 2][..]);
        assert_eq!(incoming.next().await.unwrap().unwrap(), &[9][..]);
        assert_eq!(incoming.next().await, Ok(None));
    }

    #[tokio::test]
    async fn what_is_wrong_is_an_error() {
        for bytes in [&[0, 0, 0][..], &[0, 0, 0, 9, 1], &[255, 255, 255, 255, 1]] {
            assert!(Incoming::new(Full::new(Bytes::from_static(bytes))).next().await.is_err(), "{bytes:?}");
        }
    }
}
