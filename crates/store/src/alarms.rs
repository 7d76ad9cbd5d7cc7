//! Alarms that stand until somebody takes them back: a replicated section of the state. What they forbid is decided here, when a command is applied, so
//! that every member refuses the same (server/etcdserver/apply, applierV3Capped and applierV3Corrupt). A store that is full by its own measure needs no
//! alarm: it says so while it is so.

use std::collections::BTreeSet;

use crate::codec::{DecodeError, Reader, put_uint};
use crate::engine::Engine;
use crate::kv::KvError;
use crate::state::Command;

/// Of the stored section.
const FORMAT: u64 = 1;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum AlarmKind {
    /// Nothing may grow.
    NoSpace,
    /// Nothing may change.
    Corrupt,
}

/// A member's alarm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Alarm {
    pub member: u64,
    pub kind: AlarmKind,
}

/// All of them: what a checkpoint and a snapshot file hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Alarms(pub BTreeSet<Alarm>);

impl Alarms {
    pub(crate) fn set(&mut self, alarm: Alarm, is_on: bool) {
        if is_on {
            self.0.insert(alarm);
        } else {
            self.0.remove(&alarm);
        }
    }

    /// What a client is told instead of having a command done.
    pub(crate) fn check(&self, command: &Command) -> Result<(), KvError> {
        if self.0.is_empty() {
            return Ok(());
        }
        let has = |kind| self.0.iter().any(|alarm| alarm.kind == kind);
        let changes = matches!(command, Command::Txn(_) | Command::Compact(_) | Command::LeaseGrant { .. } | Command::LeaseRevoke(_));
        if changes && has(AlarmKind::Corrupt) {
            return Err(KvError::Corrupt("etcdserver: corrupt cluster".into()));
        }
        if command.grows() && has(AlarmKind::NoSpace) { Err(KvError::NoSpace) } else { Ok(()) }
    }

    /// The section as checkpoints hold it; `None` without alarms.
    pub fn to_bytes(&self) -> Option<Vec<u8>> {
        if self.0.is_empty() {
            return None;
        }
        let mut out = Vec::new();
        put_uint(&mut out, FORMAT);
        put_uint(&mut out, self.0.len() as u64);
        self.0.iter().for_each(|alarm| encode(&mut out, *alarm));
        Some(out)
    }

    /// `Corrupt` for what `to_bytes` has not made.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, KvError> {
        let mut reader = Reader(bytes);
        let read = (|| {
            if reader.uint()? != FORMAT {
                return Err(DecodeError("another format"));
            }
            let alarms = reader.list(decode)?;
            reader.end()?;
            Ok(Self(alarms.into_iter().collect()))
        })();
        read.map_err(|error| KvError::Corrupt(format!("the alarms in the checkpoint cannot be read: {error}")))
    }
}

pub(crate) fn encode(out: &mut Vec<u8>, alarm: Alarm) {
    put_uint(out, alarm.member);
    out.push(match alarm.kind {
        AlarmKind::NoSpace => 1,
        AlarmKind::Corrupt => 2,
    });
}

pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<Alarm, DecodeError> {
    let member = reader.uint()?;
    let kind = match reader.byte()? {
        1 => AlarmKind::NoSpace,
        2 => AlarmKind::Corrupt,
        _ => return Err(DecodeError("an unknown kind of alarm")),
    };
    Ok(Alarm { member, kind })
}

impl Engine {
    /// The alarms that stand, by member and kind.
    pub fn alarms(&self) -> Vec<Alarm> {
        self.shared().state.read().alarms.0.iter().copied().collect()
    }

    /// Raises an alarm or takes it back; doing so again does nothing.
    pub async fn set_alarm(&self, alarm: Alarm, is_on: bool) -> Result<(), KvError> {
        self.propose(Command::Alarm(alarm, is_on)).await.map(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kv::{Kv, PutRequest};
    use crate::options::EngineOptions;

    const NO_SPACE: Alarm = Alarm { member: 5, kind: AlarmKind::NoSpace };
    const CORRUPT: Alarm = Alarm { member: 6, kind: AlarmKind::Corrupt };

    #[tokio::test]
    async fn an_alarm_stands_until_it_is_taken_back() {
        let dir = tempfile::tempdir().unwrap();
        let tasks = base::Tasks::new();
        let engine = Engine::open(dir.path(), EngineOptions::default(), &tasks).unwrap();
        engine.put(PutRequest::new("k", "v")).await.unwrap();
        engine.set_alarm(NO_SPACE, true).await.unwrap();
        engine.set_alarm(NO_SPACE, true).await.unwrap();
        assert_eq!(engine.put(PutRequest::new("k", "w")).await, Err(KvError::NoSpace));
        assert_eq!(engine.lease_grant(0, std::time::Duration::from_secs(9)).await.unwrap_err(), KvError::NoSpace);
        engine.close().await.unwrap();
        let engine = Engine::open(dir.path(), EngineOptions::default(), &tasks).unwrap();
        assert_eq!(engine.alarms(), [NO_SPACE]);
        engine.delete(crate::kv::KeyRange::one("k")).await.unwrap();
        engine.set_alarm(CORRUPT, true).await.unwrap();
        assert!(matches!(engine.compact(2, false).await, Err(KvError::Corrupt(_))));
        for alarm in [NO_SPACE, CORRUPT] {
            engine.set_alarm(alarm, false).await.unwrap();
        }
        assert_eq!((engine.alarms(), engine.put(PutRequest::new("k", "w")).await), (Vec::new(), Ok(4)));
        engine.close().await.unwrap();
    }

    #[test]
    fn sections_that_cannot_be_read() {
        let mut alarms = Alarms::default();
        alarms.set(CORRUPT, true);
        let bytes = alarms.to_bytes().unwrap();
        assert_eq!(Alarms::from_bytes(&bytes).unwrap().0, alarms.0);
        for wrong in [&b""[..], b"\x02\0", b"\x01\x01\x05\x03", b"\x01\0\0", b"\x01\xff"] {
            assert!(Alarms::from_bytes(wrong).is_err(), "{wrong:?}");
        }
    }
}
