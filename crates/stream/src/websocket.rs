//! WebSocket channels: binary messages whose first byte is a channel (apimachinery/pkg/util/remotecommand/constants.go).

use bytes::{Bytes, BytesMut};
use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig, frame::coding::CloseCode};
use tokio_tungstenite::tungstenite::{Error, Message};

pub const STDIN: u8 = 0;
pub const STDOUT: u8 = 1;
pub const STDERR: u8 = 2;
pub const ERROR: u8 = 3;
pub const RESIZE: u8 = 4;
/// From v5 on: the next byte names a channel that the sender has finished.
pub const CLOSE: u8 = 255;

/// A client's message may not be larger; kubectl sends 32 KiB.
const MAX_MESSAGE_BYTES: usize = 4 * 1024 * 1024;

/// What a client sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Incoming {
    Data(u8, Bytes),
    /// The client finished this channel.
    Finished(u8),
}

pub struct Receiver<C>(SplitStream<WebSocketStream<C>>);
pub struct Sender<C>(SplitSink<WebSocketStream<C>, Message>);

/// The server's side of an upgraded connection, its two directions apart. Pings are answered while `next` is polled.
pub async fn server<C>(connection: C) -> (Sender<C>, Receiver<C>)
where
    C: AsyncRead + AsyncWrite + Unpin,
{
    let config = WebSocketConfig::default().max_message_size(Some(MAX_MESSAGE_BYTES)).max_frame_size(Some(MAX_MESSAGE_BYTES));
    let (sink, stream) = WebSocketStream::from_raw_socket(connection, Role::Server, Some(config)).await.split();
    (Sender(sink), Receiver(stream))
}

impl<C> Receiver<C>
where
    C: AsyncRead + AsyncWrite + Unpin,
{
    /// The next channel message; `None` when the client has closed.
    pub async fn next(&mut self) -> Option<Result<Incoming, Error>> {
        loop {
            let mut message = match self.next_bytes().await? {
                Ok(message) => message,
                Err(error) => return Some(Err(error)),
            };
            if message.is_empty() {
                continue;
            }
            let channel = message.split_to(1)[0];
            if channel != CLOSE {
                return Some(Ok(Incoming::Data(channel, message)));
            }
            if let Some(finished) = message.first() {
                return Some(Ok(Incoming::Finished(*finished)));
            }
        }
    }

    /// The next message as it is, for tunnels.
    pub async fn next_bytes(&mut self) -> Option<Result<Bytes, Error>> {
        loop {
            match self.0.next().await? {
                Ok(Message::Binary(bytes)) => return Some(Ok(bytes)),
                Ok(Message::Text(text)) => return Some(Ok(text.into())),
                Ok(Message::Close(_)) => return None,
                Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_)) => {}
                Err(Error::ConnectionClosed | Error::AlreadyClosed) => return None,
                Err(error) => return Some(Err(error)),
            }
        }
    }
}

impl<C> Sender<C>
where
    C: AsyncRead + AsyncWrite + Unpin,
{
    pub async fn send(&mut self, channel: u8, data: &[u8]) -> Result<(), Error> {
        let mut message = BytesMut::with_capacity(data.len() + 1);
        message.extend_from_slice(&[channel]);
        message.extend_from_slice(data);
        self.send_bytes(message.freeze()).await
    }

    pub async fn send_bytes(&mut self, bytes: Bytes) -> Result<(), Error> {
        self.0.send(Message::Binary(bytes)).await
    }

    /// The closing handshake: everything was said.
    pub async fn close(mut self) -> Result<(), Error> {
        let frame = CloseFrame { code: CloseCode::Normal, reason: "".into() };
        match self.0.send(Message::Close(Some(frame))).await {
            Err(Error::ConnectionClosed | Error::AlreadyClosed) | Ok(()) => Ok(()),
            Err(error) => Err(error),
        }
    }
}
