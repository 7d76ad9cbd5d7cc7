//! A way to a server that can be cut, or made to swallow what goes one way, as networks and dying servers do.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

pub struct Proxy {
    pub endpoint: String,
    port: u16,
    target: String,
    open: Option<watch::Sender<()>>,
    swallow: Arc<[AtomicBool; 2]>,
}

impl Proxy {
    /// To `http://HOST:PORT`.
    pub async fn start(target: &str) -> Self {
        let target = target.trim_start_matches("http://").to_owned();
        let mut proxy = Self { endpoint: String::new(), port: 0, target, open: None, swallow: Arc::default() };
        proxy.open().await;
        proxy.endpoint = format!("http://127.0.0.1:{}", proxy.port);
        proxy
    }

    /// Takes connections, on the same port as before.
    pub async fn open(&mut self) {
        let listener = TcpListener::bind(("127.0.0.1", self.port)).await.unwrap();
        self.port = listener.local_addr().unwrap().port();
        self.swallow.iter().for_each(|swallow| swallow.store(false, Ordering::Release));
        let (open, closed) = watch::channel(());
        self.open = Some(open);
        let (target, swallow) = (self.target.clone(), self.swallow.clone());
        tokio::spawn(async move {
            let mut end = closed.clone();
            loop {
                let stream = tokio::select! {
                    taken = listener.accept() => taken.unwrap().0,
                    _ = end.changed() => return,
                };
                let Ok(server) = TcpStream::connect(&target).await else { continue };
                let (mut end, swallow) = (closed.clone(), swallow.clone());
                tokio::spawn(async move {
                    let ((from_client, to_client), (from_server, to_server)) = (stream.into_split(), server.into_split());
                    tokio::select! {
                        () = carry(from_client, to_server, &swallow[0]) => {}
                        () = carry(from_server, to_client, &swallow[1]) => {}
                        _ = end.changed() => {}
                    }
                });
            }
        });
    }

    /// Requests do not arrive any more.
    pub fn swallow_requests(&self) {
        self.swallow[0].store(true, Ordering::Release);
    }

    /// Answers do not arrive any more.
    pub fn swallow_answers(&self) {
        self.swallow[1].store(true, Ordering::Release);
    }

    /// Breaks all connections and takes no more.
    pub fn cut(&mut self) {
        self.open = None;
    }
}

async fn carry(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, swallow: &AtomicBool) {
    let mut buffer = vec![0; 16 << 10];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        if !swallow.load(Ordering::Acquire) && to.write_all(&buffer[..length]).await.is_err() {
            return;
        }
    }
}
