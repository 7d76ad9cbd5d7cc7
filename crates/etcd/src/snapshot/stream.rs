//! A snapshot on its way to a client: chunks of the database file, then the checksum of all of them (server/etcdserver/api/v3rpc/maintenance.go). A slow
//! client slows only its own snapshot.

use std::io::{self, Write};

use bytes::{Bytes, BytesMut};
use store::SnapshotReader;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::SnapshotError;
use super::save::{self, Cluster};
use crate::pb;

const CHUNK_BYTES: usize = 32 << 10;
/// Chunks that wait for the client.
const QUEUE_CHUNKS: usize = 16;

type Message = Result<pb::SnapshotResponse, Status>;

/// Starts to send; the work ends when it is done or the client is gone.
pub fn send(mut snapshot: SnapshotReader, cluster: Cluster, tasks: &base::Tasks) -> ReceiverStream<Message> {
    let (messages, stream) = mpsc::channel(QUEUE_CHUNKS);
    tasks.spawn("etcd snapshot", async move {
        let sender = messages.clone();
        let done = tokio::task::spawn_blocking(move || write(&mut snapshot, &cluster, sender)).await;
        let reason = match done {
            Ok(Ok(())) => return,
            // The client is gone.
            Ok(Err(SnapshotError::Stream(_))) if messages.is_closed() => return,
            Ok(Err(error)) => error.to_string(),
            Err(error) => error.to_string(),
        };
        tracing::warn!(reason, "a snapshot could not be sent");
        let _ = messages.send(Err(Status::unknown(format!("etcdserver: the snapshot failed: {reason}")))).await;
    });
    ReceiverStream::new(stream)
}

fn write(snapshot: &mut SnapshotReader, cluster: &Cluster, messages: mpsc::Sender<Message>) -> Result<(), SnapshotError> {
    let chunks = save::write(snapshot, cluster, |size| Chunks {
        messages,
        buffer: BytesMut::with_capacity(CHUNK_BYTES),
        remaining: size,
        digest: ring::digest::Context::new(&ring::digest::SHA256),
    })?;
    Ok(chunks.finish()?)
}

struct Chunks {
    messages: mpsc::Sender<Message>,
    buffer: BytesMut,
    remaining: u64,
    digest: ring::digest::Context,
}

impl Chunks {
    fn send(&mut self, blob: Bytes) -> io::Result<()> {
        let response = pb::SnapshotResponse { header: None, remaining_bytes: self.remaining, blob, version: String::new() };
        self.messages.blocking_send(Ok(response)).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }

    fn send_chunk(&mut self) -> io::Result<()> {
        let chunk = self.buffer.split().freeze();
        self.buffer.reserve(CHUNK_BYTES);
        self.digest.update(&chunk);
        self.remaining = self.remaining.saturating_sub(chunk.len() as u64);
        self.send(chunk)
    }

    fn finish(mut self) -> io::Result<()> {
        if !self.buffer.is_empty() {
            self.send_chunk()?;
        }
        let sum = self.digest.clone().finish();
        self.send(Bytes::copy_from_slice(sum.as_ref()))
    }
}

impl Write for Chunks {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(CHUNK_BYTES - self.buffer.len());
        self.buffer.extend_from_slice(&bytes[..taken]);
        if self.buffer.len() == CHUNK_BYTES {
            self.send_chunk()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
