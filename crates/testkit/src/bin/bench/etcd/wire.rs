//! A gRPC client that costs next to nothing, so that what is measured is the server: one thread, one connection, HTTP/2 frames by hand. Good for calls of
//! one method whose answers are only counted.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::TcpStream;

use anyhow::{Context, Result, bail, ensure};

const FRAME_HEADER: usize = 9;
const READ_BYTES: usize = 256 << 10;
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const ACK: u8 = 1;
/// What a server takes in one frame, if it says nothing else.
const MAX_FRAME: usize = 16_384;
/// What it takes on a stream; a message must not be larger.
const INITIAL_WINDOW: i64 = 65_535;
const OUR_WINDOW: u32 = (1 << 31) - 1;

/// What came for a stream.
pub enum Event<'a> {
    /// Bytes of messages, each behind its gRPC header of five bytes.
    Data(&'a [u8]),
    End,
}

pub struct Connection {
    socket: TcpStream,
    input: Vec<u8>,
    /// What of it is there.
    filled: usize,
    output: Vec<u8>,
    /// The block of request headers, once the server has them in its table.
    headers: Vec<u8>,
    first_headers: Option<Vec<u8>>,
    next_stream: u32,
    window: i64,
    /// Messages that the server does not take yet.
    held: VecDeque<(u32, Vec<u8>, bool)>,
    received: u32,
}

impl Connection {
    pub fn open(address: &str, path: &str) -> Result<Self> {
        let socket = TcpStream::connect(address).with_context(|| format!("connecting to {address}"))?;
        socket.set_nodelay(true)?;
        let mut output = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        // SETTINGS_INITIAL_WINDOW_SIZE, as large as it can be.
        let mut settings = vec![0, 4];
        settings.extend_from_slice(&OUR_WINDOW.to_be_bytes());
        frame(&mut output, SETTINGS, 0, 0, &settings);
        frame(&mut output, WINDOW_UPDATE, 0, 0, &(OUR_WINDOW - INITIAL_WINDOW as u32).to_be_bytes());
        // POST, http; then four fields that the server puts into its table (RFC 7541, 6.2.1), so that later requests name them by number.
        let mut first = vec![0x83, 0x86];
        for (name, value) in [(0x44, path), (0x41, address), (0x5f, "application/grpc")] {
            first.push(name);
            first.push(u8::try_from(value.len())?);
            first.extend_from_slice(value.as_bytes());
        }
        first.extend_from_slice(b"\x40\x02te\x08trailers");
        Ok(Self {
            socket,
            input: Vec::new(),
            filled: 0,
            output,
            headers: vec![0x83, 0x86, 0xc1, 0xc0, 0xbf, 0xbe],
            first_headers: Some(first),
            next_stream: 1,
            window: INITIAL_WINDOW,
            held: VecDeque::new(),
            received: 0,
        })
    }

    /// Begins a call with its first message; `whole`: there are no more. Returns the stream.
    pub fn call(&mut self, message: &[u8], whole: bool) -> u32 {
        let stream = self.next_stream;
        self.next_stream += 2;
        let headers = self.first_headers.take();
        frame(&mut self.output, HEADERS, END_HEADERS, stream, headers.as_ref().unwrap_or(&self.headers));
        self.send(stream, message, whole);
        stream
    }

    pub fn send(&mut self, stream: u32, message: &[u8], last: bool) {
        let length = message.len() + 5;
        if !self.held.is_empty() || self.window < length as i64 {
            self.held.push_back((stream, message.to_vec(), last));
            return;
        }
        let mut data = vec![0];
        data.extend_from_slice(&(message.len() as u32).to_be_bytes());
        data.extend_from_slice(message);
        let mut parts = data.chunks(MAX_FRAME).peekable();
        while let Some(part) = parts.next() {
            let flags = if last && parts.peek().is_none() { END_STREAM } else { 0 };
            frame(&mut self.output, DATA, flags, stream, part);
        }
        self.window -= length as i64;
    }

    fn send_held(&mut self) {
        for (stream, message, last) in std::mem::take(&mut self.held) {
            self.send(stream, &message, last);
        }
    }

    /// Sends what waits, waits for something to come, and shows it.
    pub fn turn(&mut self, mut each: impl FnMut(u32, Event<'_>)) -> Result<()> {
        self.socket.write_all(&self.output)?;
        self.output.clear();
        if self.input.len() - self.filled < READ_BYTES {
            self.input.resize(self.filled + READ_BYTES, 0);
        }
        let count = self.socket.read(&mut self.input[self.filled..])?;
        ensure!(count > 0, "the server closed the connection");
        self.filled += count;
        let mut at = 0;
        let input = &self.input[..self.filled];
        while let Some(header) = input.get(at..at + FRAME_HEADER) {
            let length = u32::from_be_bytes([0, header[0], header[1], header[2]]) as usize;
            let (kind, flags) = (header[3], header[4]);
            let stream = u32::from_be_bytes([header[5], header[6], header[7], header[8]]) & 0x7fff_ffff;
            let Some(payload) = input.get(at + FRAME_HEADER..at + FRAME_HEADER + length) else { break };
            at += FRAME_HEADER + length;
            match kind {
                DATA => {
                    self.received += length as u32;
                    each(stream, Event::Data(payload));
                }
                SETTINGS if flags & ACK == 0 => frame(&mut self.output, SETTINGS, ACK, 0, &[]),
                PING if flags & ACK == 0 => frame(&mut self.output, PING, ACK, 0, payload),
                WINDOW_UPDATE if stream == 0 => self.window += i64::from(u32::from_be_bytes(payload.try_into()?)),
                GOAWAY => bail!("the server goes away: {}", String::from_utf8_lossy(&payload[8..])),
                RST_STREAM => bail!("the server broke off a call: error {payload:?}"),
                _ => {}
            }
            if matches!(kind, DATA | HEADERS) && flags & END_STREAM != 0 {
                each(stream, Event::End);
            }
        }
        self.input.copy_within(at..self.filled, 0);
        self.filled -= at;
        self.send_held();
        if self.received > 1 << 28 {
            frame(&mut self.output, WINDOW_UPDATE, 0, 0, &self.received.to_be_bytes());
            self.received = 0;
        }
        Ok(())
    }

    /// `turn` gives up after this long without anything.
    pub fn set_patience(&self, time: std::time::Duration) -> Result<()> {
        Ok(self.socket.set_read_timeout(Some(time))?)
    }
}

fn frame(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    out.extend_from_slice(&(payload.len() as u32).to_be_bytes()[1..]);
    out.extend_from_slice(&[kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(payload);
}

/// Protocol buffers, as far as requests need them.
#[derive(Default)]
pub struct Message(pub Vec<u8>);

impl Message {
    pub fn number(mut self, field: u8, value: u64) -> Self {
        self.0.push(field << 3);
        self.varint(value);
        self
    }

    pub fn bytes(mut self, field: u8, value: &[u8]) -> Self {
        self.0.push(field << 3 | 2);
        self.varint(value.len() as u64);
        self.0.extend_from_slice(value);
        self
    }

    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }
}
