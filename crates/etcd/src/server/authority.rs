//! Lets gRPC clients in whose `:authority` is not one: etcdctl 3.4 sends a whole URL there, clients of etcd 3.5.0 a list (`#initially=[...]`). Our HTTP/2
//! library refuses such requests, Go's does not, and nobody reads the value. Only the first request of a connection is looked at: the client repeats
//! its header by reference. The replacement has the same length, so that both ends' header tables stay in step (RFC 7541, 4.1).

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const FRAME_HEADER_BYTES: usize = 9;
/// Until the first request a client cannot know of a larger limit.
const FRAME_BYTES: usize = 16_384;
const HEADERS: u8 = 1;
const END_HEADERS: u8 = 0x4;
const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;
const READ_BYTES: usize = 4096;

/// A connection whose first request is made acceptable.
pub struct Lenient<S> {
    stream: S,
    /// Received but not yet looked at.
    inbox: Vec<u8>,
    /// Looked at but not yet read.
    outbox: Vec<u8>,
    looking: bool,
    seen_preface: bool,
}

impl<S> Lenient<S> {
    pub fn new(stream: S) -> Self {
        Self { stream, inbox: Vec::new(), outbox: Vec::new(), looking: true, seen_preface: false }
    }

    /// Moves what is complete from the inbox to the outbox.
    fn look(&mut self) {
        if !self.seen_preface {
            let length = self.inbox.len().min(PREFACE.len());
            if self.inbox[..length] != PREFACE[..length] {
                return self.stop_looking();
            }
            if length < PREFACE.len() {
                return;
            }
            self.outbox.extend(self.inbox.drain(..length));
            self.seen_preface = true;
        }
        while let Some(header) = self.inbox.get(..FRAME_HEADER_BYTES) {
            let length = usize::from(header[0]) << 16 | usize::from(header[1]) << 8 | usize::from(header[2]);
            let (kind, flags) = (header[3], header[4]);
            if length > FRAME_BYTES {
                return self.stop_looking();
            }
            let end = FRAME_HEADER_BYTES + length;
            if self.inbox.len() < end {
                return;
            }
            if kind == HEADERS {
                if flags & END_HEADERS != 0
                    && let Some(block) = rewrite(&self.inbox[FRAME_HEADER_BYTES..end], flags)
                {
                    let size = u32::try_from(block.len()).unwrap_or_default().to_be_bytes();
                    self.outbox.extend_from_slice(&size[1..]);
                    self.outbox.extend_from_slice(&self.inbox[3..FRAME_HEADER_BYTES]);
                    self.outbox.extend_from_slice(&block);
                    self.inbox.drain(..end);
                }
                return self.stop_looking();
            }
            self.outbox.extend(self.inbox.drain(..end));
        }
    }

    fn stop_looking(&mut self) {
        self.outbox.append(&mut self.inbox);
        self.looking = false;
    }
}

/// The payload of a HEADERS frame with another authority; `None`: it can stay as it is.
fn rewrite(payload: &[u8], flags: u8) -> Option<Vec<u8>> {
    let mut start = 0;
    let mut end = payload.len();
    if flags & PADDED != 0 {
        end = end.checked_sub(usize::from(*payload.first()?))?;
        start += 1;
    }
    if flags & PRIORITY != 0 {
        start += 5;
    }
    let block = payload.get(start..end)?;
    let value = authority(block)?;
    let text = value.text(block)?;
    if http::uri::Authority::try_from(text.as_slice()).is_ok() {
        return None;
    }
    let mut rewritten = payload[..start + value.start].to_vec();
    // Not compressed; a length below the prefix's limit is one byte.
    rewritten.push(u8::try_from(text.len()).ok().filter(|length| *length < 127)?);
    rewritten.resize(rewritten.len() + text.len(), b'x');
    rewritten.extend_from_slice(&payload[start + value.end..]);
    Some(rewritten)
}

/// A string of a header block: where its length stands, where its bytes begin, where it ends.
struct Text {
    start: usize,
    bytes: usize,
    end: usize,
}

impl Text {
    fn at(block: &[u8], start: usize) -> Option<Self> {
        let (length, bytes) = integer(block, start, 7)?;
        let end = bytes.checked_add(length).filter(|end| *end <= block.len())?;
        Some(Self { start, bytes, end })
    }

    fn text(&self, block: &[u8]) -> Option<Vec<u8>> {
        let bytes = &block[self.bytes..self.end];
        if block[self.start] & 0x80 == 0 { Some(bytes.to_vec()) } else { decompress(bytes) }
    }
}

/// The value of `:authority` where it is written out (RFC 7541, 6).
fn authority(block: &[u8]) -> Option<Text> {
    let mut at = 0;
    while let Some(first) = block.get(at) {
        let prefix = match first {
            0x80.. => {
                at = integer(block, at, 7)?.1;
                continue;
            }
            0x40.. => 6,
            0x20.. => {
                at = integer(block, at, 5)?.1;
                continue;
            }
            _ => 4,
        };
        let (name, after) = integer(block, at, prefix)?;
        at = after;
        let is_authority = if name == 0 {
            let written = Text::at(block, at)?;
            at = written.end;
            written.text(block).is_some_and(|name| name == b":authority")
        } else {
            // Its place in the static table.
            name == 1
        };
        let value = Text::at(block, at)?;
        if is_authority {
            return Some(value);
        }
        at = value.end;
    }
    None
}

/// An integer with a prefix of so many bits, and where it ends (RFC 7541, 5.1).
fn integer(block: &[u8], at: usize, prefix: u32) -> Option<(usize, usize)> {
    let limit = (1_usize << prefix) - 1;
    let mut value = usize::from(*block.get(at)?) & limit;
    let mut end = at + 1;
    if value == limit {
        for shift in [0, 7, 14] {
            let byte = *block.get(end)?;
            end += 1;
            value += usize::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some((value, end));
            }
        }
        return None;
    }
    Some((value, end))
}

/// The symbols of the static Huffman code with up to 15 bits: the code is canonical, so their order is all there is to know (RFC 7541, appendix B).
const CODE: [(u32, &[u8]); 10] = [
    (5, b"012aceiost"),
    (6, b" %-./3456789=A_bdfghlmnpru"),
    (7, b":BCDEFGHIJKLMNOPQRSTUVWYjkqvwxyz"),
    (8, b"&*,;XZ"),
    (10, b"!\"()?"),
    (11, b"'+|"),
    (12, b"#>"),
    (13, b"\0$@[]~"),
    (14, b"^}"),
    (15, b"<`{"),
];

/// `None` where there are rarer symbols than a URL has.
fn decompress(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut text = Vec::new();
    let (mut code, mut length) = (0_u32, 0_u32);
    for bit in bytes.iter().flat_map(|byte| (0..8).rev().map(move |shift| byte >> shift & 1)) {
        code = code << 1 | u32::from(bit);
        length += 1;
        if length > 15 {
            return None;
        }
        let (mut first, mut bits) = (0_u32, 5_u32);
        for (group, symbols) in CODE {
            first <<= group - bits;
            bits = group;
            let count = symbols.len() as u32;
            if group == length
                && let Some(place) = code.checked_sub(first).filter(|place| *place < count)
            {
                text.push(symbols[place as usize]);
                (code, length) = (0, 0);
                break;
            }
            first += count;
        }
    }
    // The rest of the last byte is filled with ones.
    (length < 8 && code == (1 << length) - 1).then_some(text)
}

impl<S: AsyncRead + Unpin> AsyncRead for Lenient<S> {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        let this = self.get_mut();
        loop {
            if !this.outbox.is_empty() {
                let length = this.outbox.len().min(out.remaining());
                out.put_slice(&this.outbox[..length]);
                this.outbox.drain(..length);
                if this.outbox.is_empty() && !this.looking {
                    this.outbox = Vec::new();
                }
                return Poll::Ready(Ok(()));
            }
            if !this.looking {
                return Pin::new(&mut this.stream).poll_read(context, out);
            }
            let mut chunk = [0; READ_BYTES];
            let mut chunk = ReadBuf::new(&mut chunk);
            ready!(Pin::new(&mut this.stream).poll_read(context, &mut chunk))?;
            if chunk.filled().is_empty() {
                this.stop_looking();
                if this.outbox.is_empty() {
                    return Poll::Ready(Ok(()));
                }
                continue;
            }
            this.inbox.extend_from_slice(chunk.filled());
            this.look();
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Lenient<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, data: &[u8]) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(context, data)
    }

    fn poll_write_vectored(self: Pin<&mut Self>, context: &mut Context<'_>, data: &[std::io::IoSlice<'_>]) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(context, data)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[test]
    fn huffman() {
        // RFC 7541, C.4.1 and C.6.1.
        let check = |hex: &str, expected: Option<&str>| {
            let bytes: Vec<u8> = (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect();
            assert_eq!(decompress(&bytes), expected.map(|text| text.as_bytes().to_vec()), "{hex}");
        };
        check("f1e3c2e5f23a6ba0ab90f4ff", Some("www.example.com"));
        check("9d29ad171863c78f0b97c8e9ae82ae43d3", Some("https://www.example.com"));
        check("6402", Some("302"));
        check("fffffff0", None);
    }

    /// A POST to "/" with this authority, written out.
    fn block(authority: &[u8]) -> Vec<u8> {
        let mut block = vec![0x83, 0x86, 0x41, authority.len() as u8];
        block.extend_from_slice(authority);
        block.push(0x84);
        block
    }

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![0, 0, payload.len() as u8, kind, flags, 0, 0, 0, u8::from(kind == HEADERS)];
        frame.extend_from_slice(payload);
        frame
    }

    #[tokio::test]
    async fn only_what_is_no_authority_is_replaced() {
        let request =
            |authority: &[u8]| [PREFACE, &frame(4, 0, &[]), &frame(HEADERS, 5, &block(authority)), &frame(0, 1, b"body")].concat();
        let padded = |authority: &[u8]| {
            let payload = [&[2_u8, 0, 0, 0, 0, 1][..], &block(authority), &[0, 0]].concat();
            [PREFACE, &frame(HEADERS, END_HEADERS | PADDED | PRIORITY, &payload)].concat()
        };
        for (sent, expected) in [
            (request(b"127.0.0.1:2379"), request(b"127.0.0.1:2379")),
            (request(b"http://127.0.0.1:2379"), request(b"xxxxxxxxxxxxxxxxxxxxx")),
            (padded(b"#initially=[a;b]"), padded(b"xxxxxxxxxxxxxxxx")),
            (request(b""), request(b"")),
            (b"GET /health HTTP/1.1\r\n\r\n".to_vec(), b"GET /health HTTP/1.1\r\n\r\n".to_vec()),
            (PREFACE[..10].to_vec(), PREFACE[..10].to_vec()),
            ([PREFACE, &[0xff; 40]].concat(), [PREFACE, &[0xff; 40]].concat()),
            ([PREFACE, &frame(HEADERS, 5, &[0x41, 0x7f, 0xff])].concat(), [PREFACE, &frame(HEADERS, 5, &[0x41, 0x7f, 0xff])].concat()),
        ] {
            // Whole, and byte by byte.
            for step in [sent.len(), 1] {
                let (mut client, server) = tokio::io::duplex(step);
                let data = sent.clone();
                let writing = tokio::spawn(async move {
                    for part in data.chunks(step) {
                        client.write_all(part).await.unwrap();
                    }
                });
                let mut seen = Vec::new();
                Lenient::new(server).read_to_end(&mut seen).await.unwrap();
                assert_eq!(seen, expected, "{:?}", String::from_utf8_lossy(&sent));
                writing.await.unwrap();
            }
        }
    }
}
