//! A whole state from one member to another, on a connection of its own and no faster than the other side takes it.

use bytes::Bytes;
use http::StatusCode;
use http_body::Frame;
use http_body_util::{BodyExt, Limited, StreamBody};
use store::{Engine, KvError, OutgoingSnapshot};
use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tonic::body::Body;
use tower::Service;

use super::SNAPSHOTS;
use super::frame::Incoming;
use super::greeting::Refusal;
use super::lane::{Ends, refused};

/// Chunks that may wait for the network, or for the disk on the other side.
const CHUNKS: usize = 2;
const REASON_BYTES: usize = 4096;

pub async fn send(ends: Ends, snapshot: OutgoingSnapshot) {
    let peer = format!("{:x}", ends.to);
    tracing::info!(peer, bytes = snapshot.size_hint, "sending database snapshot");
    let sent = stream(&ends, snapshot).await;
    match &sent {
        Ok(()) => tracing::info!(peer, "sent database snapshot"),
        Err(reason) => tracing::warn!(peer, reason, "failed to send database snapshot"),
    }
    ends.engine.snapshot_sent(ends.to, sent.is_ok());
}

async fn stream(ends: &Ends, mut snapshot: OutgoingSnapshot) -> Result<(), String> {
    let (chunks, queue) = mpsc::channel::<Result<Bytes, KvError>>(CHUNKS);
    let reader = tokio::task::spawn_blocking(move || {
        while let Some(chunk) = snapshot.next_chunk().transpose() {
            // Where the other side has gone there is nobody to tell.
            let is_last = chunk.is_err();
            if chunks.blocking_send(chunk).is_err() || is_last {
                return;
            }
        }
    });
    let frames = ReceiverStream::new(queue).map(|chunk| {
        let chunk = chunk?;
        let length = u32::try_from(chunk.len()).map_err(|error| KvError::Internal(error.to_string()))?;
        Ok::<_, KvError>(Frame::data([&length.to_be_bytes()[..], &chunk].concat().into()))
    });
    let request = ends.greeting().request(SNAPSHOTS, Body::new(StreamBody::new(frames)))?;
    let response = ends.transport.clone().call(request).await.map_err(|status| status.message().to_owned());
    reader.await.map_err(|error| error.to_string())?;
    let response = response?;
    let status = response.status();
    let body = Limited::new(response.into_body(), REASON_BYTES).collect().await.map_err(|error| error.to_string())?.to_bytes();
    if status == StatusCode::OK {
        return Ok(());
    }
    Err(refused(ends, Refusal { status, reason: String::from_utf8_lossy(&body).into_owned() }))
}

/// Hands the store what comes.
pub async fn receive(engine: Engine, from: u64, body: hyper::body::Incoming) -> Result<(), String> {
    tracing::info!(peer = format!("{from:x}"), "receiving database snapshot");
    let (chunks, mut queue) = mpsc::channel::<Result<Bytes, KvError>>(CHUNKS);
    let writer = tokio::task::spawn_blocking(move || {
        let mut chunks = std::iter::from_fn(|| queue.blocking_recv());
        engine.receive_snapshot(from, &mut chunks)
    });
    let mut frames = Incoming::new(body);
    while let Some(chunk) = frames.next().await.transpose() {
        let chunk = chunk.map_err(|reason| KvError::Unavailable(format!("the snapshot broke off: {reason}")));
        let is_last = chunk.is_err();
        if chunks.send(chunk).await.is_err() || is_last {
            break;
        }
    }
    drop(chunks);
    writer.await.map_err(|error| error.to_string())?.map_err(|error| error.to_string())
}
