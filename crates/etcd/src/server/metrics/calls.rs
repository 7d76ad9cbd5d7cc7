//! Counts of gRPC calls, as the interceptors of go-grpc-prometheus make them: each method of each service from the start, at zero.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use hyper::body::{Frame, SizeHint};
use tonic::body::Body;
use tonic::{Code, Status};

use super::Counter;
use super::text::Page;
use crate::server::gateway::schema::{Method, SERVICES};

const CODES: [(Code, &str); 17] = [
    (Code::Ok, "OK"),
    (Code::Cancelled, "Canceled"),
    (Code::Unknown, "Unknown"),
    (Code::InvalidArgument, "InvalidArgument"),
    (Code::DeadlineExceeded, "DeadlineExceeded"),
    (Code::NotFound, "NotFound"),
    (Code::AlreadyExists, "AlreadyExists"),
    (Code::PermissionDenied, "PermissionDenied"),
    (Code::ResourceExhausted, "ResourceExhausted"),
    (Code::FailedPrecondition, "FailedPrecondition"),
    (Code::Aborted, "Aborted"),
    (Code::OutOfRange, "OutOfRange"),
    (Code::Unimplemented, "Unimplemented"),
    (Code::Internal, "Internal"),
    (Code::Unavailable, "Unavailable"),
    (Code::DataLoss, "DataLoss"),
    (Code::Unauthenticated, "Unauthenticated"),
];

/// The counts of one method.
#[derive(Default)]
pub struct Call {
    pub started: Counter,
    pub received: Counter,
    pub sent: Counter,
    handled: [Counter; CODES.len()],
}

impl Call {
    pub fn handled(&self, code: Code) {
        if let Some(at) = CODES.iter().position(|(known, _)| *known == code) {
            self.handled[at].inc();
        }
    }
}

/// In the order of `SERVICES`.
pub struct Calls(Vec<Vec<Arc<Call>>>);

impl Default for Calls {
    fn default() -> Self {
        Self(SERVICES.iter().map(|service| service.methods.iter().map(|_| Arc::default()).collect()).collect())
    }
}

impl Calls {
    pub fn of(&self, service: &str, method: &str) -> Option<(&Arc<Call>, &'static Method)> {
        let at = SERVICES.iter().position(|each| each.name == service)?;
        let methods = SERVICES[at].methods;
        let method = methods.iter().position(|each| each.name == method)?;
        Some((&self.0[at][method], &methods[method]))
    }

    pub fn write(&self, page: &mut Page) {
        let all = || {
            SERVICES.iter().zip(&self.0).flat_map(|(service, calls)| {
                service.methods.iter().zip(calls).map(|(method, call)| {
                    let labels = [("grpc_type", kind(method)), ("grpc_service", service.name), ("grpc_method", method.name)];
                    (labels, call)
                })
            })
        };
        type Count = fn(&Call) -> u64;
        let families: [(_, _, Count); 3] = [
            ("grpc_server_started_total", "Calls that began", |call| call.started.get()),
            ("grpc_server_msg_received_total", "Messages from clients", |call| call.received.get()),
            ("grpc_server_msg_sent_total", "Messages to clients", |call| call.sent.get()),
        ];
        for (name, help, count) in families {
            let mut family = page.counter(name, help);
            all().for_each(|(labels, call)| family.with(&labels, count(call)));
        }
        let mut family = page.counter("grpc_server_handled_total", "Calls that ended, by their code");
        for ([kind, service, method], call) in all() {
            for ((_, code), count) in CODES.iter().zip(&call.handled).filter(|(_, count)| count.get() > 0) {
                family.with(&[("grpc_code", *code), kind, service, method], count.get());
            }
        }
    }
}

fn kind(method: &Method) -> &'static str {
    match (method.takes_stream, method.gives_stream) {
        (false, false) => "unary",
        (true, false) => "client_stream",
        (false, true) => "server_stream",
        (true, true) => "bidi_stream",
    }
}

/// Resolves when a stream must end, and why.
pub type End = Pin<Box<dyn Future<Output = Status> + Send>>;

/// Finds the messages in the bytes of a stream: each has a header of five bytes, whose last four are its length.
#[derive(Debug, Default)]
struct Messages {
    header: [u8; 5],
    have: usize,
    /// Bytes of the present message that are to come.
    left: usize,
}

impl Messages {
    /// How many begin in these bytes.
    fn begin(&mut self, mut data: &[u8]) -> u64 {
        let mut begun = 0;
        loop {
            let skipped = self.left.min(data.len());
            (self.left, data) = (self.left - skipped, &data[skipped..]);
            let taken = (self.header.len() - self.have).min(data.len());
            if taken == 0 {
                return begun;
            }
            self.header[self.have..self.have + taken].copy_from_slice(&data[..taken]);
            (self.have, data) = (self.have + taken, &data[taken..]);
            if self.have == self.header.len() {
                let [_, length @ ..] = self.header;
                (self.have, self.left) = (0, usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX));
                begun += 1;
            }
        }
    }
}

/// The body of a stream's answer, which tells how the call ended.
pub struct Counted {
    body: Body,
    messages: Messages,
    call: Arc<Call>,
    end: Option<End>,
    /// What the trailers say; a client that leaves before them has cancelled.
    code: Code,
    /// The trailers were sent before the body's own.
    cut: bool,
}

impl Counted {
    pub fn new(body: Body, call: Arc<Call>, end: Option<End>) -> Self {
        Self { body, messages: Messages::default(), call, end, code: Code::Cancelled, cut: false }
    }

    /// The last frame of a stream that does not go on.
    fn cut_short(&mut self, status: &Status) -> Frame<Bytes> {
        (self.end, self.cut, self.code) = (None, true, status.code());
        let mut trailers = HeaderMap::new();
        // A text that is no header leaves the code.
        if status.add_header(&mut trailers).is_err() {
            trailers.insert("grpc-status", HeaderValue::from(i32::from(status.code())));
        }
        Frame::trailers(trailers)
    }
}

impl hyper::body::Body for Counted {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.cut {
            return Poll::Ready(None);
        }
        if let Some(Poll::Ready(status)) = self.end.as_mut().map(|end| end.as_mut().poll(context)) {
            return Poll::Ready(Some(Ok(self.cut_short(&status))));
        }
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        match &frame {
            Some(Ok(frame)) => {
                if let Some(trailers) = frame.trailers_ref() {
                    self.code = Status::from_header_map(trailers).map_or(Code::Ok, |status| status.code());
                }
                if let Some(data) = frame.data_ref() {
                    let begun = self.messages.begin(data);
                    self.call.sent.inc_by(begun);
                }
            }
            Some(Err(status)) => self.code = status.code(),
            None => {}
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.cut || self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.call.handled(self.code);
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::super::text::Format;
    use super::*;

    #[test]
    fn messages_are_found_wherever_they_are_cut() {
        let stream = [&b"\0\0\0\0\x03abc"[..], b"\0\0\0\0\0", b"\0\0\0\0\x01x", b"\0\0"].concat();
        for cut in 1..stream.len() {
            let mut messages = Messages::default();
            let begun: u64 = stream.chunks(cut).map(|chunk| messages.begin(chunk)).sum();
            assert_eq!(begun, 3, "in pieces of {cut}");
        }
    }

    #[tokio::test]
    async fn streams_end_with_their_trailers_or_are_cancelled() {
        let calls = Calls::default();
        let (call, method) = calls.of("etcdserverpb.Watch", "Watch").unwrap();
        assert!(method.gives_stream && calls.of("etcdserverpb.Watch", "Other").is_none());
        let trailers = |code: &str| {
            let mut headers = http::HeaderMap::new();
            headers.insert("grpc-status", code.parse().unwrap());
            let frames = futures::stream::iter([Ok::<_, Status>(Frame::data(Bytes::from("x"))), Ok(Frame::trailers(headers))]);
            Counted::new(Body::new(http_body_util::StreamBody::new(frames)), call.clone(), None)
        };
        trailers("0").collect().await.unwrap();
        trailers("14").collect().await.unwrap();
        drop(trailers("0"));
        let waiting = futures::stream::pending::<Result<Frame<Bytes>, Status>>();
        let end: End = Box::pin(async { Status::unavailable("etcdserver: no leader") });
        let cut = Counted::new(Body::new(http_body_util::StreamBody::new(waiting)), call.clone(), Some(end)).collect().await.unwrap();
        assert_eq!(Status::from_header_map(cut.trailers().unwrap()).unwrap().message(), "etcdserver: no leader");
        let mut page = Page::new(Format::Prometheus);
        calls.write(&mut page);
        let text = page.finish();
        for (code, count) in [("OK", 1), ("Unavailable", 2), ("Canceled", 1)] {
            let line = format!(
                "grpc_server_handled_total{{grpc_code=\"{code}\",grpc_type=\"bidi_stream\",grpc_service=\"etcdserverpb.Watch\",grpc_method=\"Watch\"}} {count}\n"
            );
            assert!(text.contains(&line), "{line}{text}");
        }
        assert!(text.contains("grpc_server_started_total{grpc_type=\"unary\",grpc_service=\"etcdserverpb.KV\",grpc_method=\"Put\"} 0\n"));
    }
}
