//! A store as a database file of etcd: reads a snapshot of the engine twice, once for the sizes and once for the bytes, so that neither memory nor disk
//! holds a copy. Must never block a runtime's thread: it is called on threads that may.

use std::io::{self, Write};

use bbolt::{Layout, Tree, Writer};
use bytes::{Bytes, BytesMut};
use prost::Message;
use store::{ALARMS_SECTION, AUTH_SECTION, Alarms, AuthRecord, Member, SnapshotReader};

use super::SnapshotError;
use super::auth::{Buckets, Entries};
use super::schema::{self, Lease, MemberRecord};

/// That of etcd's machines.
const PAGE_BYTES: u32 = 4096;

/// What a snapshot says beside the keys and leases.
#[derive(Clone, Debug, Default)]
pub struct Cluster {
    pub members: Vec<Member>,
    pub term: u64,
}

/// Writes a whole database file to `out`, after `announce` was told its size.
pub fn write<W: Write>(snapshot: &mut SnapshotReader, cluster: &Cluster, announce: impl FnOnce(u64) -> W) -> Result<W, SnapshotError> {
    let (_, expected) = write_pages(io::sink(), snapshot, cluster)?;
    snapshot.rewind();
    let mut out = announce(expected.size_bytes());
    out.write_all(&expected.head())?;
    let (out, layout) = write_pages(out, snapshot, cluster)?;
    if layout != expected {
        return Err(SnapshotError::Changed);
    }
    Ok(out)
}

fn write_pages<W: Write>(out: W, snapshot: &mut SnapshotReader, cluster: &Cluster) -> Result<(W, Layout), SnapshotError> {
    let mut writer = Writer::new(out, PAGE_BYTES);
    let mut keys = Tree::default();
    let mut buffer = BytesMut::new();
    while let Some(batch) = snapshot.next_batch()? {
        for (kv, place) in batch {
            let (key, value) = schema::row(kv, place, &mut buffer).map_err(|_| SnapshotError::Changed)?;
            writer.put(&mut keys, key, value)?;
        }
    }
    let mut buckets = vec![(schema::KEY, writer.end(keys)?)];
    for (name, entries) in small_buckets(snapshot, cluster)? {
        let mut tree = Tree::default();
        for (key, value) in entries {
            writer.put(&mut tree, key, value)?;
        }
        buckets.push((name, writer.end(tree)?));
    }
    buckets.sort_by_key(|(name, _)| *name);
    let mut root = Tree::default();
    for (name, bucket) in buckets {
        writer.put_bucket(&mut root, Bytes::from_static(name), bucket)?;
    }
    Ok(writer.finish(root)?)
}

fn small_buckets(snapshot: &SnapshotReader, cluster: &Cluster) -> Result<Vec<(&'static [u8], Entries)>, SnapshotError> {
    // In the order of their keys, negative ids last.
    let mut leases: Entries =
        snapshot.leases().iter().map(|lease| (Lease::key(lease.id), Lease::of(lease).encode_to_vec().into())).collect();
    leases.sort();
    let mut members = Entries::new();
    for member in &cluster.members {
        members.push((schema::member_key(member.id), serde_json::to_vec(&MemberRecord::from(member))?.into()));
    }
    members.sort();
    let section = |wanted: &str| snapshot.extras().iter().find(|(name, _)| name == wanted).map(|(_, section)| section);
    let auth = Buckets::of(&section(AUTH_SECTION).map(|section| AuthRecord::from_bytes(section)).transpose()?.unwrap_or_default());
    let alarms = section(ALARMS_SECTION).map(|section| Alarms::from_bytes(section)).transpose()?.unwrap_or_default();
    let mut alarms: Entries = alarms.0.iter().map(|alarm| (schema::alarm_key(*alarm), Bytes::new())).collect();
    alarms.sort();
    Ok(vec![
        (schema::LEASE, leases),
        (schema::META, meta(snapshot, cluster)?),
        (schema::MEMBERS, members),
        (schema::MEMBERS_REMOVED, Entries::new()),
        (schema::CLUSTER, vec![(Bytes::from_static(schema::CLUSTER_VERSION), Bytes::from_static(super::CLUSTER_VERSION.as_bytes()))]),
        (schema::ALARM, alarms),
        (schema::AUTH, auth.auth),
        (schema::AUTH_USERS, auth.users),
        (schema::AUTH_ROLES, auth.roles),
    ])
}

fn meta(snapshot: &SnapshotReader, cluster: &Cluster) -> Result<Entries, SnapshotError> {
    let number = |number: u64| Bytes::copy_from_slice(&number.to_be_bytes());
    let stands = snapshot.meta();
    let mut entries = vec![
        (schema::CONSISTENT_INDEX, number(stands.applied_index)),
        (schema::TERM, number(cluster.term)),
        (schema::CONF_STATE, serde_json::to_vec(&schema::ConfState::of(&cluster.members))?.into()),
    ];
    if stands.compact_revision > 0 {
        let revision = schema::revision_key(stands.compact_revision, 0, false);
        entries.push((schema::SCHEDULED_COMPACT, revision.clone()));
        entries.push((schema::FINISHED_COMPACT, revision));
    }
    entries.sort();
    Ok(entries.into_iter().map(|(key, value)| (Bytes::from_static(key), value)).collect())
}
