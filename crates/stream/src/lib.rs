//! The upgrade protocols of exec, attach and port-forward: SPDY/3.1 sessions, WebSocket channels, and the translation between them.
//! Must not know pods, nor open connections of its own: callers hand in upgraded byte streams.

pub mod spdy;
pub mod translate;
pub mod upgrade;
pub mod websocket;
