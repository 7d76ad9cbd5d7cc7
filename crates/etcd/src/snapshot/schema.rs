//! What etcd keeps in which bucket of its database (server/storage/schema, server/storage/mvcc/revision.go): names, keys and values, both ways. Pure;
//! does not know where the database is.

use bytes::{BufMut, Bytes, BytesMut};
use prost::Message;
use serde::{Deserialize, Serialize};
use store::{Alarm, AlarmKind, KeyValue, LeaseRecord, Member, Revision};

use crate::pb;

pub const KEY: &[u8] = b"key";
pub const META: &[u8] = b"meta";
pub const LEASE: &[u8] = b"lease";
pub const ALARM: &[u8] = b"alarm";
pub const CLUSTER: &[u8] = b"cluster";
pub const MEMBERS: &[u8] = b"members";
pub const MEMBERS_REMOVED: &[u8] = b"members_removed";
pub const AUTH: &[u8] = b"auth";
pub const AUTH_USERS: &[u8] = b"authUsers";
pub const AUTH_ROLES: &[u8] = b"authRoles";

pub const SCHEDULED_COMPACT: &[u8] = b"scheduledCompactRev";
pub const FINISHED_COMPACT: &[u8] = b"finishedCompactRev";
pub const CONSISTENT_INDEX: &[u8] = b"consistent_index";
pub const TERM: &[u8] = b"term";
pub const CONF_STATE: &[u8] = b"confState";
pub const CLUSTER_VERSION: &[u8] = b"clusterVersion";
pub const AUTH_ENABLED: &[u8] = b"authEnabled";
pub const AUTH_REVISION: &[u8] = b"authRevision";

const REVISION_BYTES: usize = 17;
const DELETION: u8 = b't';

/// The key of a row: the revision and the place inside it, marked when the row is a deletion.
pub fn revision_key(revision: Revision, place: u32, deletion: bool) -> Bytes {
    let mut key = BytesMut::with_capacity(REVISION_BYTES + 1);
    key.put_i64(revision);
    key.put_u8(b'_');
    key.put_i64(i64::from(place));
    if deletion {
        key.put_u8(DELETION);
    }
    key.freeze()
}

/// Takes a row's key apart: revision, place, whether it is a deletion.
pub fn parse_revision_key(key: &[u8]) -> Option<(Revision, u32, bool)> {
    let (fixed, mark) = key.split_at_checked(REVISION_BYTES)?;
    let deletion = match mark {
        [] => false,
        [DELETION] => true,
        _ => return None,
    };
    let revision = Revision::from_be_bytes(fixed[..8].try_into().ok()?);
    let place = i64::from_be_bytes(fixed[9..].try_into().ok()?);
    (fixed[8] == b'_' && revision > 0).then_some(())?;
    Some((revision, u32::try_from(place).ok()?, deletion))
}

/// A version as a row of the key bucket.
pub fn row(kv: KeyValue, place: u32, buffer: &mut BytesMut) -> Result<(Bytes, Bytes), prost::EncodeError> {
    let deletion = kv.version == 0;
    let key = revision_key(kv.mod_revision, place, deletion);
    let stored = if deletion { pb::KeyValue { key: kv.key, ..Default::default() } } else { kv.into() };
    buffer.reserve(stored.encoded_len());
    stored.encode(buffer)?;
    Ok((key, buffer.split().freeze()))
}

/// A row of the key bucket as a version; `Ok(None)` for one that only raises the revision, as `etcdutl snapshot restore --bump-revision` leaves it.
pub fn parse_row(key: &[u8], value: Bytes) -> Result<Option<(KeyValue, u32)>, &'static str> {
    let (revision, place, deletion) = parse_revision_key(key).ok_or("its key is no revision")?;
    if value.is_empty() {
        return Ok(None);
    }
    let kv: KeyValue = pb::KeyValue::decode(value).map_err(|_| "its value is not a key with a value")?.into();
    if kv.key.is_empty() {
        return Err("it is for an empty key");
    }
    if deletion {
        return Ok(Some((KeyValue { key: kv.key, mod_revision: revision, ..KeyValue::default() }, place)));
    }
    let in_order = (1..=revision).contains(&kv.create_revision) && kv.mod_revision == revision;
    // Each version takes a revision at least.
    if !in_order || kv.version < 1 || kv.version - 1 > revision - kv.create_revision {
        return Err("its revisions contradict each other");
    }
    Ok(Some((kv, place)))
}

/// leasepb.Lease
#[derive(Clone, PartialEq, Message)]
pub struct Lease {
    #[prost(int64, tag = "1")]
    pub id: i64,
    #[prost(int64, tag = "2")]
    pub ttl_seconds: i64,
    #[prost(int64, tag = "3")]
    pub remaining_seconds: i64,
}

impl Lease {
    pub fn key(id: i64) -> Bytes {
        Bytes::copy_from_slice(&id.to_be_bytes())
    }

    /// Both count whole seconds; a begun second counts.
    pub fn of(record: &LeaseRecord) -> Self {
        let seconds = |ms: u64| i64::try_from(ms.div_ceil(1000)).unwrap_or(i64::MAX);
        Self { id: record.id, ttl_seconds: seconds(record.ttl_ms), remaining_seconds: seconds(record.checkpoint_ms) }
    }

    pub fn to_record(&self) -> Result<LeaseRecord, &'static str> {
        let ms = |seconds: i64| u64::try_from(seconds).ok().and_then(|seconds| seconds.checked_mul(1000)).ok_or("its time is out of range");
        Ok(LeaseRecord { id: self.id, ttl_ms: ms(self.ttl_seconds)?, checkpoint_ms: ms(self.remaining_seconds)? })
    }
}

/// A member as JSON, the way etcd writes it (server/etcdserver/api/membership/member.go).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct MemberRecord {
    pub id: u64,
    #[serde(rename = "peerURLs")]
    pub peer_urls: Vec<String>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub is_learner: bool,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    #[serde(rename = "clientURLs", skip_serializing_if = "Vec::is_empty")]
    pub client_urls: Vec<String>,
}

impl From<&Member> for MemberRecord {
    fn from(member: &Member) -> Self {
        let Member { id, name, peer_urls, client_urls, is_learner } = member.clone();
        Self { id, peer_urls, is_learner, name, client_urls }
    }
}

/// The key of a member, also of one that was removed.
pub fn member_key(id: u64) -> Bytes {
    format!("{id:x}").into()
}

/// An alarm is a key without a value (server/storage/schema/alarm.go).
pub fn alarm_key(alarm: Alarm) -> Bytes {
    let kind = match alarm.kind {
        AlarmKind::NoSpace => pb::AlarmType::Nospace,
        AlarmKind::Corrupt => pb::AlarmType::Corrupt,
    };
    pb::AlarmMember { member_id: alarm.member, alarm: kind.into() }.encode_to_vec().into()
}

/// `None` for a key that is no alarm.
pub fn parse_alarm_key(key: &[u8]) -> Option<Alarm> {
    let member = pb::AlarmMember::decode(key).ok()?;
    let kind = match pb::AlarmType::try_from(member.alarm).ok()? {
        pb::AlarmType::Nospace => AlarmKind::NoSpace,
        pb::AlarmType::Corrupt => AlarmKind::Corrupt,
        pb::AlarmType::None => return None,
    };
    Some(Alarm { member: member.member_id, kind })
}

/// Who votes, as JSON (raftpb.ConfState); etcd 3.5 keeps it beside its other numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ConfState {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub voters: Vec<u64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub learners: Vec<u64>,
    pub auto_leave: bool,
}

impl ConfState {
    pub fn of(members: &[Member]) -> Self {
        let ids = |learners| members.iter().filter(|member| member.is_learner == learners).map(|member| member.id).collect();
        Self { voters: ids(false), learners: ids(true), auto_leave: false }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_go_both_ways() {
        let kv = KeyValue { key: "a".into(), value: "b".into(), create_revision: 3, mod_revision: 7, version: 2, lease: 9 };
        let mut buffer = BytesMut::new();
        let (key, value) = row(kv.clone(), 1, &mut buffer).unwrap();
        assert_eq!(&key[..], b"\0\0\0\0\0\0\0\x07_\0\0\0\0\0\0\0\x01");
        assert_eq!(parse_row(&key, value).unwrap(), Some((kv.clone(), 1)));
        let deleted = KeyValue { key: "a".into(), mod_revision: 8, ..KeyValue::default() };
        let (key, value) = row(deleted.clone(), 0, &mut buffer).unwrap();
        assert_eq!(&key[..], b"\0\0\0\0\0\0\0\x08_\0\0\0\0\0\0\0\0t");
        assert_eq!(&value[..], b"\x0a\x01a");
        assert_eq!(parse_row(&key, value).unwrap(), Some((deleted, 0)));
        assert_eq!(parse_row(&key, Bytes::new()).unwrap(), None);
    }

    #[test]
    fn rows_that_are_none() {
        let mut buffer = BytesMut::new();
        let kv = KeyValue { key: "a".into(), value: "b".into(), create_revision: 3, mod_revision: 7, version: 2, lease: 9 };
        let (_, value) = row(kv, 1, &mut buffer).unwrap();
        let check = |key: &[u8], value: &Bytes, expected: &str| assert_eq!(parse_row(key, value.clone()), Err(expected), "{key:?}");
        for key in [
            &b""[..],
            b"\0\0\0\0\0\0\0\x07_\0\0\0\0\0\0\0",
            b"\0\0\0\0\0\0\0\x07_\0\0\0\0\0\0\0\x01x",
            b"\xff\0\0\0\0\0\0\x07_\0\0\0\0\0\0\0\x01",
        ] {
            check(key, &value, "its key is no revision");
        }
        check(b"\0\0\0\0\0\0\0\x07_\xff\0\0\0\0\0\0\x01", &value, "its key is no revision");
        check(&revision_key(8, 0, false), &value, "its revisions contradict each other");
        let many = KeyValue { key: "a".into(), create_revision: 3, mod_revision: 7, version: 6, ..KeyValue::default() };
        let (key, many) = row(many, 0, &mut buffer).unwrap();
        check(&key, &many, "its revisions contradict each other");
        check(&revision_key(7, 0, false), &Bytes::from_static(b"\xff"), "its value is not a key with a value");
        check(&revision_key(7, 0, false), &Bytes::from_static(b"\x10\x01"), "it is for an empty key");
    }

    #[test]
    fn alarms_go_both_ways() {
        for kind in [AlarmKind::NoSpace, AlarmKind::Corrupt] {
            let alarm = Alarm { member: 7, kind };
            assert_eq!(parse_alarm_key(&alarm_key(alarm)), Some(alarm));
        }
        for wrong in [&b""[..], b"\x08\x07", b"\x08\x07\x10\x07", b"\xff"] {
            assert_eq!(parse_alarm_key(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn members_are_the_json_of_etcd() {
        let text =
            r#"{"id":6662698563040693991,"peerURLs":["http://127.0.0.1:2380"],"name":"default","clientURLs":["http://127.0.0.1:2379"]}"#;
        let member = Member {
            id: 6_662_698_563_040_693_991,
            name: "default".into(),
            peer_urls: vec!["http://127.0.0.1:2380".into()],
            client_urls: vec!["http://127.0.0.1:2379".into()],
            is_learner: false,
        };
        assert_eq!(serde_json::to_string(&MemberRecord::from(&member)).unwrap(), text);
        assert_eq!(serde_json::from_str::<MemberRecord>(text).unwrap(), MemberRecord::from(&member));
        assert_eq!(member_key(member.id), "5c76a90ae78bcee7");
        let state = ConfState::of(&[member, Member { id: 2, is_learner: true, ..Member::default() }]);
        assert_eq!(serde_json::to_string(&state).unwrap(), r#"{"voters":[6662698563040693991],"learners":[2],"auto_leave":false}"#);
    }
}
