//! A SPDY session: one task reads frames, one writes them, streams are handles on both. The session ends when its last handle is dropped or the peer leaves.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use base::Tasks;
use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{mpsc, oneshot};

use super::frame::{Frame, FrameError};
use super::headers::{Decoder, Encoder, Headers};

/// Data frames that may wait for a stream's reader before the whole session waits.
const QUEUED_FRAMES: usize = 32;
/// Frames that may wait for the connection.
const QUEUED_WRITES: usize = 32;
/// A data frame's length has 24 bits; smaller ones let streams share the connection.
const MAX_DATA_BYTES: usize = 32 * 1024;

#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    #[error("the connection ended")]
    Ended,
    #[error("the peer refused the stream (status {0})")]
    Refused(u32),
    #[error(transparent)]
    Frame(#[from] FrameError),
}

struct Entry {
    data: mpsc::Sender<Bytes>,
    accepted: Option<oneshot::Sender<Result<(), u32>>>,
}

struct Shared {
    streams: Mutex<HashMap<u32, Entry>>,
    next_id: AtomicU32,
}

/// What the writer task is asked to do. Opening carries plain headers: compression must happen in the order of writing.
enum Write {
    Open { id: u32, headers: Headers },
    Reply { id: u32 },
    Frame(Frame),
}

/// A handle on the connection. Cheap to clone.
#[derive(Clone)]
pub struct Session {
    shared: Arc<Shared>,
    writes: mpsc::Sender<Write>,
}

/// One stream of a session.
pub struct Stream {
    id: u32,
    headers: Headers,
    data: mpsc::Receiver<Bytes>,
    sender: StreamSender,
}

/// The writing half of a stream. Cheap to clone.
#[derive(Clone)]
pub struct StreamSender {
    id: u32,
    writes: mpsc::Sender<Write>,
}

impl Session {
    /// Speaks as the client (odd stream ids) over an upgraded connection.
    pub fn client<C>(connection: C, tasks: &Tasks) -> Self
    where
        C: AsyncRead + AsyncWrite + Send + 'static,
    {
        Self::start(connection, 1, tasks).0
    }

    /// Speaks as the server; the receiver yields the streams that the peer opens.
    pub fn server<C>(connection: C, tasks: &Tasks) -> (Self, mpsc::Receiver<Stream>)
    where
        C: AsyncRead + AsyncWrite + Send + 'static,
    {
        Self::start(connection, 2, tasks)
    }

    fn start<C>(connection: C, first_id: u32, tasks: &Tasks) -> (Self, mpsc::Receiver<Stream>)
    where
        C: AsyncRead + AsyncWrite + Send + 'static,
    {
        let (reader, writer) = tokio::io::split(connection);
        let (writes, to_write) = mpsc::channel(QUEUED_WRITES);
        let (opened, accepting) = mpsc::channel(QUEUED_FRAMES);
        let shared = Arc::new(Shared { streams: Mutex::new(HashMap::new()), next_id: AtomicU32::new(first_id) });
        let incoming = Incoming { shared: shared.clone(), writes: writes.downgrade(), opened, decoder: Decoder::new() };
        tasks.spawn("spdy-writer", async move {
            if let Err(error) = write_frames(writer, to_write).await {
                tracing::debug!(%error, "a SPDY connection can no longer be written");
            }
        });
        tasks.spawn("spdy-reader", async move {
            let shared = incoming.shared.clone();
            if let Err(error) = read_frames(reader, incoming).await {
                tracing::debug!(%error, "a SPDY connection ended");
            }
            shared.streams.lock().clear();
        });
        (Self { shared, writes }, accepting)
    }

    /// Opens a stream and waits until the peer accepts it.
    pub async fn open(&self, headers: &[(&str, &str)]) -> Result<Stream, StreamError> {
        let id = self.shared.next_id.fetch_add(2, Ordering::Relaxed);
        let (data, receiver) = mpsc::channel(QUEUED_FRAMES);
        let (accept, accepted) = oneshot::channel();
        self.shared.streams.lock().insert(id, Entry { data, accepted: Some(accept) });
        let headers: Headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        self.writes.send(Write::Open { id, headers: headers.clone() }).await.map_err(|_| StreamError::Ended)?;
        accepted.await.map_err(|_| StreamError::Ended)?.map_err(StreamError::Refused)?;
        Ok(Stream { id, headers, data: receiver, sender: StreamSender { id, writes: self.writes.clone() } })
    }
}

impl Stream {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    pub fn id(&self) -> u32 {
        self.id
    }

    /// The next data; `None` when the peer has finished or reset the stream, or the connection ended.
    pub async fn next(&mut self) -> Option<Bytes> {
        self.data.recv().await
    }

    pub fn sender(&self) -> StreamSender {
        self.sender.clone()
    }

    /// The two directions apart, so that each can be dropped alone.
    pub fn split(self) -> (StreamSender, mpsc::Receiver<Bytes>) {
        (self.sender, self.data)
    }
}

impl StreamSender {
    pub async fn send(&self, mut data: Bytes) -> Result<(), StreamError> {
        while !data.is_empty() {
            let part = data.split_to(data.len().min(MAX_DATA_BYTES));
            self.write(Frame::Data { id: self.id, fin: false, data: part }).await?;
        }
        Ok(())
    }

    /// Nothing more will be sent; the other direction stays open.
    pub async fn finish(&self) -> Result<(), StreamError> {
        self.write(Frame::Data { id: self.id, fin: true, data: Bytes::new() }).await
    }

    async fn write(&self, frame: Frame) -> Result<(), StreamError> {
        self.writes.send(Write::Frame(frame)).await.map_err(|_| StreamError::Ended)
    }
}

async fn write_frames<W>(mut writer: W, mut writes: mpsc::Receiver<Write>) -> Result<(), Box<dyn std::error::Error + Send + Sync>>
where
    W: AsyncWrite + Unpin,
{
    let mut encoder = Encoder::new()?;
    let mut out = BytesMut::with_capacity(MAX_DATA_BYTES + 64);
    while let Some(first) = writes.recv().await {
        let mut next = Some(first);
        while let Some(write) = next {
            let frame = match write {
                Write::Open { id, headers } => {
                    let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
                    Frame::SynStream { id, fin: false, block: encoder.encode(&headers)?.into() }
                }
                Write::Reply { id } => Frame::SynReply { id, fin: false, block: encoder.encode(&[])?.into() },
                Write::Frame(frame) => frame,
            };
            frame.write(&mut out);
            next = if out.len() < MAX_DATA_BYTES { writes.try_recv().ok() } else { None };
        }
        writer.write_all(&out).await?;
        writer.flush().await?;
        out.clear();
    }
    writer.shutdown().await?;
    Ok(())
}

/// The reading side. It holds the writer only weakly: reading must not keep a session alive that nobody uses.
struct Incoming {
    shared: Arc<Shared>,
    writes: mpsc::WeakSender<Write>,
    opened: mpsc::Sender<Stream>,
    decoder: Decoder,
}

async fn read_frames<R>(mut reader: R, mut incoming: Incoming) -> Result<(), Box<dyn std::error::Error + Send + Sync>>
where
    R: AsyncRead + Unpin,
{
    let mut buffer = BytesMut::with_capacity(MAX_DATA_BYTES);
    loop {
        while let Some(frame) = Frame::parse(&mut buffer)? {
            if !incoming.take(frame).await? {
                return Ok(());
            }
        }
        if reader.read_buf(&mut buffer).await? == 0 {
            return Ok(());
        }
    }
}

impl Incoming {
    /// False: the peer says goodbye.
    async fn take(&mut self, frame: Frame) -> Result<bool, FrameError> {
        match frame {
            Frame::Data { id, fin, data } => {
                let sender = self.shared.streams.lock().get(&id).map(|entry| entry.data.clone());
                if let Some(sender) = sender
                    && !data.is_empty()
                    && sender.send(data).await.is_err()
                {
                    tracing::trace!(id, "data for a stream that nobody reads");
                }
                self.finished(id, fin);
            }
            Frame::SynReply { id, fin, block } => {
                self.decoder.decode(&block)?;
                self.accepted(id, Ok(()));
                self.finished(id, fin);
            }
            Frame::Headers { id, fin, block } => {
                self.decoder.decode(&block)?;
                self.finished(id, fin);
            }
            Frame::RstStream { id, status } => {
                self.accepted(id, Err(status));
                self.finished(id, true);
            }
            Frame::SynStream { id, fin, block } => {
                let headers = self.decoder.decode(&block)?;
                self.opened(id, headers).await;
                self.finished(id, fin);
            }
            Frame::Ping { id } => self.write(Write::Frame(Frame::Ping { id })).await,
            Frame::GoAway { .. } => return Ok(false),
            Frame::Other { kind } => tracing::trace!(kind, "a SPDY frame without meaning here"),
        }
        Ok(true)
    }

    fn accepted(&self, id: u32, result: Result<(), u32>) {
        let waiting = self.shared.streams.lock().get_mut(&id).and_then(|entry| entry.accepted.take());
        if let Some(waiting) = waiting {
            // An opener that gave up waiting needs no answer.
            let _unheard = waiting.send(result);
        }
    }

    /// Without its sender the stream's reader sees the end.
    fn finished(&self, id: u32, fin: bool) {
        if fin {
            self.shared.streams.lock().remove(&id);
        }
    }

    async fn opened(&self, id: u32, headers: Headers) {
        let Some(writes) = self.writes.upgrade() else { return };
        let (data, receiver) = mpsc::channel(QUEUED_FRAMES);
        self.shared.streams.lock().insert(id, Entry { data, accepted: None });
        let stream = Stream { id, headers, data: receiver, sender: StreamSender { id, writes } };
        if self.opened.send(stream).await.is_ok() {
            self.write(Write::Reply { id }).await;
        } else {
            self.write(Write::Frame(Frame::RstStream { id, status: REFUSED_STREAM })).await;
        }
    }

    async fn write(&self, write: Write) {
        if let Some(writes) = self.writes.upgrade()
            && writes.send(write).await.is_err()
        {
            tracing::trace!("a SPDY connection is closing");
        }
    }
}

const REFUSED_STREAM: u32 = 3;
