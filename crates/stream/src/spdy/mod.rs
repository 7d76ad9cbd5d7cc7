//! SPDY/3.1 as Kubernetes uses it: streams with headers over one connection, half-close, ping. Flow control is TCP's: Kubernetes' own peers
//! (moby/spdystream) neither send nor heed window updates.

mod frame;
mod headers;
mod session;

pub use frame::FrameError;
pub use session::{Session, Stream, StreamError, StreamSender};

#[cfg(test)]
mod tests;
