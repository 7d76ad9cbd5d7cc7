//! Frames of SPDY/3.1 on the wire (draft-mbelshe-httpbis-spdy-00 section 2.2): parsing and writing, without any state.

use bytes::{Buf, BufMut, Bytes, BytesMut};

const VERSION: u16 = 3;
pub const FLAG_FIN: u8 = 1;

#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    #[error("spdy: {0}")]
    Headers(String),
    #[error("spdy: a frame of version {0}, wanted 3")]
    Version(u16),
    #[error("spdy: a control frame of type {0} is too short")]
    Short(u16),
}

/// What this crate understands of the protocol. Header blocks are still compressed: order matters for them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    SynStream {
        id: u32,
        fin: bool,
        block: Bytes,
    },
    SynReply {
        id: u32,
        fin: bool,
        block: Bytes,
    },
    RstStream {
        id: u32,
        status: u32,
    },
    Ping {
        id: u32,
    },
    GoAway {
        last: u32,
    },
    Headers {
        id: u32,
        fin: bool,
        block: Bytes,
    },
    Data {
        id: u32,
        fin: bool,
        data: Bytes,
    },
    /// SETTINGS, WINDOW_UPDATE and what is unknown: skipped.
    Other {
        kind: u16,
    },
}

const SYN_STREAM: u16 = 1;
const SYN_REPLY: u16 = 2;
const RST_STREAM: u16 = 3;
const PING: u16 = 6;
const GOAWAY: u16 = 7;
const HEADERS: u16 = 8;

impl Frame {
    /// Takes one frame off the buffer; `None` when it is not there whole.
    pub fn parse(buffer: &mut BytesMut) -> Result<Option<Self>, FrameError> {
        if buffer.len() < 8 {
            return Ok(None);
        }
        let length = u32::from_be_bytes([0, buffer[5], buffer[6], buffer[7]]) as usize;
        if buffer.len() < 8 + length {
            buffer.reserve(8 + length - buffer.len());
            return Ok(None);
        }
        let mut whole = buffer.split_to(8 + length).freeze();
        let (first, flags) = (whole.get_u32(), whole.get_u8());
        whole.advance(3);
        let fin = flags & FLAG_FIN != 0;
        if first & 0x8000_0000 == 0 {
            return Ok(Some(Self::Data { id: first, fin, data: whole }));
        }
        let (version, kind) = ((first >> 16) as u16 & 0x7fff, first as u16);
        if version != VERSION {
            return Err(FrameError::Version(version));
        }
        Self::control(kind, fin, whole).map(Some)
    }

    fn control(kind: u16, fin: bool, mut body: Bytes) -> Result<Self, FrameError> {
        let needed = match kind {
            SYN_STREAM => 10,
            SYN_REPLY | HEADERS | PING => 4,
            RST_STREAM | GOAWAY => 8,
            _ => 0,
        };
        if body.len() < needed {
            return Err(FrameError::Short(kind));
        }
        let stream = |body: &mut Bytes| body.get_u32() & 0x7fff_ffff;
        Ok(match kind {
            SYN_STREAM => {
                let id = stream(&mut body);
                // The associated stream, the priority and the slot mean nothing to Kubernetes.
                body.advance(6);
                Self::SynStream { id, fin, block: body }
            }
            SYN_REPLY => Self::SynReply { id: stream(&mut body), fin, block: body },
            HEADERS => Self::Headers { id: stream(&mut body), fin, block: body },
            RST_STREAM => Self::RstStream { id: stream(&mut body), status: body.get_u32() },
            PING => Self::Ping { id: body.get_u32() },
            GOAWAY => Self::GoAway { last: stream(&mut body) },
            kind => Self::Other { kind },
        })
    }

    pub fn write(&self, out: &mut BytesMut) {
        let mut control = |kind: u16, fin: bool, length: usize| {
            out.put_u16(0x8000 | VERSION);
            out.put_u16(kind);
            out.put_u32(u32::from(fin) << 24 | length as u32 & 0x00ff_ffff);
        };
        match self {
            Self::SynStream { id, fin, block } => {
                control(SYN_STREAM, *fin, 10 + block.len());
                out.put_u32(*id);
                out.put_u32(0);
                out.put_u16(0);
                out.put_slice(block);
            }
            Self::SynReply { id, fin, block } => {
                control(SYN_REPLY, *fin, 4 + block.len());
                out.put_u32(*id);
                out.put_slice(block);
            }
            Self::Headers { id, fin, block } => {
                control(HEADERS, *fin, 4 + block.len());
                out.put_u32(*id);
                out.put_slice(block);
            }
            Self::RstStream { id, status } => {
                control(RST_STREAM, false, 8);
                out.put_u32(*id);
                out.put_u32(*status);
            }
            Self::Ping { id } => {
                control(PING, false, 4);
                out.put_u32(*id);
            }
            Self::GoAway { last } => {
                control(GOAWAY, false, 8);
                out.put_u32(*last);
                out.put_u32(0);
            }
            Self::Data { id, fin, data } => {
                out.put_u32(*id);
                out.put_u32(u32::from(*fin) << 24 | data.len() as u32 & 0x00ff_ffff);
                out.put_slice(data);
            }
            Self::Other { .. } => {}
        }
    }
}
