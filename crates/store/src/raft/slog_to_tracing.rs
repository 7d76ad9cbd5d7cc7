//! raft-rs logs by slog; here it goes to tracing. What it tells at its leisure is for debugging only: the member itself logs who leads.

use std::fmt::Write;

use slog::{Drain, KV, Level, Logger, OwnedKVList, Record, Serializer, o};

struct ToTracing;

struct Text(String);

impl Serializer for Text {
    fn emit_arguments(&mut self, key: slog::Key, value: &std::fmt::Arguments<'_>) -> slog::Result {
        write!(self.0, " {key}={value}").map_err(|_| slog::Error::Other)
    }
}

impl Drain for ToTracing {
    type Ok = ();
    type Err = slog::Never;

    fn log(&self, record: &Record<'_>, values: &OwnedKVList) -> Result<(), slog::Never> {
        let text = || {
            let mut text = Text(record.msg().to_string());
            // Text takes everything.
            let _ = record.kv().serialize(record, &mut text);
            let _ = values.serialize(record, &mut text);
            text.0
        };
        match record.level() {
            Level::Critical | Level::Error => tracing::error!(target: "raft", "{}", text()),
            Level::Warning => tracing::warn!(target: "raft", "{}", text()),
            Level::Info | Level::Debug if tracing::enabled!(target: "raft", tracing::Level::DEBUG) => {
                tracing::debug!(target: "raft", "{}", text())
            }
            _ => {}
        }
        Ok(())
    }
}

pub(super) fn logger() -> Logger {
    Logger::root(ToTracing.fuse(), o!())
}
