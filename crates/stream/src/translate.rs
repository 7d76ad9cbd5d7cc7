//! New clients speak WebSocket, container runtimes SPDY: this stands between them (KEP-4006; staging/src/k8s.io/apiserver/pkg/util/proxy).

use base::Tasks;
use bytes::Bytes;
use futures::future::join_all;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;

use crate::spdy::{Session, Stream, StreamError, StreamSender};
use crate::websocket::{self, ERROR, Incoming, RESIZE, Receiver, STDERR, STDIN, STDOUT, Sender};

/// Which streams a remote command has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Command {
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
    pub tty: bool,
}

impl Command {
    /// From the query of exec and attach: `stdin=true&stdout=1&tty=true`.
    pub fn from_query(query: &str) -> Self {
        let is = |name: &str| {
            query.split('&').filter_map(|pair| pair.split_once('=')).any(|(key, value)| key == name && (value == "true" || value == "1"))
        };
        let tty = is("tty");
        // A terminal has one output only.
        Self { stdin: is("stdin"), stdout: is("stdout"), stderr: is("stderr") && !tty, tty }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum TranslateError {
    #[error("the runtime's side: {0}")]
    Runtime(#[from] StreamError),
    #[error("the client's side: {0}")]
    Client(#[from] Box<tokio_tungstenite::tungstenite::Error>),
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

impl From<tokio_tungstenite::tungstenite::Error> for TranslateError {
    fn from(error: tokio_tungstenite::tungstenite::Error) -> Self {
        Self::Client(Box::new(error))
    }
}

/// Runs one remote command between a client's WebSocket (`v4.channel.k8s.io` or v5) and a runtime's SPDY connection (`v4.channel.k8s.io`), to its end.
pub async fn remote_command<W, S>(client: W, runtime: S, command: Command) -> Result<(), TranslateError>
where
    W: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: AsyncRead + AsyncWrite + Send + 'static,
{
    // The session's tasks end with this function, whichever side left first.
    let tasks = Tasks::new();
    let result = run(client, runtime, command, &tasks).await;
    tasks.stop();
    result
}

async fn run<W, S>(client: W, runtime: S, command: Command, tasks: &Tasks) -> Result<(), TranslateError>
where
    W: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: AsyncRead + AsyncWrite + Send + 'static,
{
    let session = Session::client(runtime, tasks);
    // The order is the one that every client of upstream keeps.
    let error = session.open(&[("streamType", "error")]).await?;
    let stdin = open(&session, "stdin", command.stdin).await?;
    let stdout = open(&session, "stdout", command.stdout).await?;
    let stderr = open(&session, "stderr", command.stderr).await?;
    let resize = open(&session, "resize", command.tty).await?;
    let (sender, receiver) = websocket::server(client).await;
    let sources = [(STDOUT, stdout), (STDERR, stderr), (ERROR, Some(error))];
    let inputs = Inputs { stdin: stdin.map(|stream| stream.sender()), resize: resize.map(|stream| stream.sender()) };
    tokio::select! {
        // The output ends when the command has ended and everything was sent on.
        result = output(sources, sender) => result,
        // The input ends only when the client has left; then nobody waits for output.
        result = input(receiver, inputs) => result,
    }
}

async fn open(session: &Session, kind: &str, wanted: bool) -> Result<Option<Stream>, StreamError> {
    if wanted { session.open(&[("streamType", kind)]).await.map(Some) } else { Ok(None) }
}

struct Inputs {
    stdin: Option<StreamSender>,
    resize: Option<StreamSender>,
}

async fn input<W>(mut client: Receiver<W>, inputs: Inputs) -> Result<(), TranslateError>
where
    W: AsyncRead + AsyncWrite + Unpin,
{
    while let Some(message) = client.next().await {
        match message? {
            Incoming::Data(STDIN, data) => {
                if let Some(stdin) = &inputs.stdin {
                    stdin.send(data).await?;
                }
            }
            Incoming::Data(RESIZE, data) => {
                if let Some(resize) = &inputs.resize {
                    resize.send(data).await?;
                }
            }
            Incoming::Finished(STDIN) => {
                if let Some(stdin) = &inputs.stdin {
                    stdin.finish().await?;
                }
            }
            Incoming::Data(channel, _) | Incoming::Finished(channel) => {
                tracing::debug!(channel, "a client wrote to a channel that is not its own")
            }
        }
    }
    Ok(())
}

async fn output<W>(sources: [(u8, Option<Stream>); 3], mut client: Sender<W>) -> Result<(), TranslateError>
where
    W: AsyncRead + AsyncWrite + Unpin,
{
    let (merged, mut messages) = mpsc::channel::<(u8, Bytes)>(16);
    let readers =
        sources.into_iter().filter_map(|(channel, stream)| stream.map(|stream| (channel, stream))).map(|(channel, mut stream)| {
            let merged = merged.clone();
            async move {
                while let Some(data) = stream.next().await {
                    if merged.send((channel, data)).await.is_err() {
                        return;
                    }
                }
            }
        });
    let readers = join_all(readers.collect::<Vec<_>>());
    drop(merged);
    let writer = async {
        while let Some((channel, data)) = messages.recv().await {
            client.send(channel, &data).await?;
        }
        client.close().await
    };
    let (_, written) = tokio::join!(readers, writer);
    Ok(written?)
}

/// Carries the bytes of a SPDY connection inside WebSocket messages, both ways, until either side ends (`SPDY/3.1+portforward.k8s.io`).
pub async fn tunnel<W, S>(client: W, runtime: S) -> Result<(), TranslateError>
where
    W: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: AsyncRead + AsyncWrite + Send + 'static,
{
    let (mut sender, mut receiver) = websocket::server(client).await;
    let (mut reader, mut writer) = tokio::io::split(runtime);
    let up = async {
        while let Some(bytes) = receiver.next_bytes().await {
            writer.write_all(&bytes?).await?;
            writer.flush().await?;
        }
        Ok::<(), TranslateError>(())
    };
    let down = async {
        let mut buffer = bytes::BytesMut::with_capacity(32 * 1024);
        while reader.read_buf(&mut buffer).await? > 0 {
            sender.send_bytes(buffer.split().freeze()).await?;
            buffer.reserve(32 * 1024);
        }
        Ok::<(), TranslateError>(sender.close().await?)
    };
    tokio::select! {
        result = up => result,
        result = down => result,
    }
}

#[cfg(test)]
mod tests;
