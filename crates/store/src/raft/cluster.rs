//! Who is in the cluster: a section of the replicated state, beside keys and leases. Pure. The same changes in the same order make the same section.

use std::collections::{BTreeMap, BTreeSet};

use super::{Member, MemberChange};
use crate::codec::{DecodeError, Reader, put_bytes, put_uint};
use crate::kv::KvError;

/// Name of the section in checkpoints and snapshots.
pub(crate) const SECTION: &str = "members";
const FORMAT: u64 = 1;

/// Raft's configuration, as the log has made it so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Conf {
    pub voters: Vec<u64>,
    pub learners: Vec<u64>,
    pub voters_outgoing: Vec<u64>,
    pub learners_next: Vec<u64>,
    pub auto_leave: bool,
}

/// A change of a member that is no change of Raft's configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum MemberCommand {
    Publish { id: u64, name: String, client_urls: Vec<String> },
    Update { id: u64, peer_urls: Vec<String> },
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cluster {
    pub members: BTreeMap<u64, Member>,
    /// Ids that were members once; they never come back.
    pub removed: BTreeSet<u64>,
    pub conf: Conf,
    /// Term of the last applied entry.
    pub term: u64,
}

impl Cluster {
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    pub fn list(&self) -> Vec<Member> {
        self.members.values().cloned().collect()
    }

    /// Checks changes that happen together, in their order, and makes them; on an error none is made.
    /// (server/etcdserver/api/membership/cluster.go, ValidateConfigurationChange)
    pub fn change(&mut self, changes: &[MemberChange]) -> Result<(), KvError> {
        let mut next = (self.members.clone(), self.removed.clone());
        for change in changes {
            apply(&mut next, change)?;
        }
        if next.0.values().all(|member| member.is_learner) {
            // Nobody would be left to decide anything.
            return Err(KvError::NotEnoughStarted);
        }
        (self.members, self.removed) = next;
        Ok(())
    }

    pub fn command(&mut self, command: MemberCommand) -> Result<(), KvError> {
        match command {
            MemberCommand::Publish { id, name, client_urls } => {
                let member = self.members.get_mut(&id).ok_or(KvError::MemberNotFound)?;
                (member.name, member.client_urls) = (name, client_urls);
            }
            MemberCommand::Update { id, peer_urls } => {
                if !self.members.contains_key(&id) {
                    return Err(KvError::MemberNotFound);
                }
                check_urls(&self.members, id, &peer_urls)?;
                self.members.entry(id).and_modify(|member| member.peer_urls = peer_urls);
            }
        }
        Ok(())
    }

    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        put_uint(&mut out, FORMAT);
        put_uint(&mut out, self.term);
        put_uint(&mut out, self.members.len() as u64);
        for member in self.members.values() {
            put_member(&mut out, member);
        }
        put_ids(&mut out, self.removed.iter());
        put_conf(&mut out, &self.conf);
        out
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader(bytes);
        if reader.uint()? > FORMAT {
            return Err(DecodeError("a newer version wrote the members, use that version"));
        }
        let term = reader.uint()?;
        let members = reader.list(read_member)?.into_iter().map(|member| (member.id, member)).collect();
        let removed = reader.list(Reader::uint)?.into_iter().collect();
        let conf = read_conf(&mut reader)?;
        reader.end()?;
        Ok(Self { members, removed, conf, term })
    }
}

fn apply((members, removed): &mut (BTreeMap<u64, Member>, BTreeSet<u64>), change: &MemberChange) -> Result<(), KvError> {
    match change {
        MemberChange::Add(member) => {
            if member.id == 0 || members.contains_key(&member.id) || removed.contains(&member.id) {
                return Err(KvError::MemberExists);
            }
            check_urls(members, member.id, &member.peer_urls)?;
            members.insert(member.id, member.clone());
        }
        MemberChange::Promote(id) => {
            let member = members.get_mut(id).ok_or(KvError::MemberNotFound)?;
            if !member.is_learner {
                return Err(KvError::MemberNotLearner);
            }
            member.is_learner = false;
        }
        MemberChange::Remove(id) => {
            members.remove(id).ok_or(KvError::MemberNotFound)?;
            removed.insert(*id);
        }
    }
    Ok(())
}

/// No two members may have a peer URL in common.
fn check_urls(members: &BTreeMap<u64, Member>, id: u64, urls: &[String]) -> Result<(), KvError> {
    let others = members.values().filter(|member| member.id != id);
    if others.flat_map(|member| &member.peer_urls).any(|url| urls.contains(url)) { Err(KvError::PeerUrlExists) } else { Ok(()) }
}

fn put_ids<'a>(out: &mut Vec<u8>, ids: impl ExactSizeIterator<Item = &'a u64>) {
    put_uint(out, ids.len() as u64);
    for id in ids {
        put_uint(out, *id);
    }
}

fn put_texts(out: &mut Vec<u8>, texts: &[String]) {
    put_uint(out, texts.len() as u64);
    for text in texts {
        put_bytes(out, text.as_bytes());
    }
}

fn read_text(reader: &mut Reader<'_>) -> Result<String, DecodeError> {
    String::from_utf8(reader.slice()?.to_vec()).map_err(|_| DecodeError("a text that is not UTF-8"))
}

pub(super) fn put_conf(out: &mut Vec<u8>, conf: &Conf) {
    for ids in [&conf.voters, &conf.learners, &conf.voters_outgoing, &conf.learners_next] {
        put_ids(out, ids.iter());
    }
    out.push(u8::from(conf.auto_leave));
}

pub(super) fn read_conf(reader: &mut Reader<'_>) -> Result<Conf, DecodeError> {
    Ok(Conf {
        voters: reader.list(Reader::uint)?,
        learners: reader.list(Reader::uint)?,
        voters_outgoing: reader.list(Reader::uint)?,
        learners_next: reader.list(Reader::uint)?,
        auto_leave: reader.byte()? != 0,
    })
}

fn put_member(out: &mut Vec<u8>, member: &Member) {
    put_uint(out, member.id);
    put_bytes(out, member.name.as_bytes());
    put_texts(out, &member.peer_urls);
    put_texts(out, &member.client_urls);
    out.push(u8::from(member.is_learner));
}

fn read_member(reader: &mut Reader<'_>) -> Result<Member, DecodeError> {
    Ok(Member {
        id: reader.uint()?,
        name: read_text(reader)?,
        peer_urls: reader.list(read_text)?,
        client_urls: reader.list(read_text)?,
        is_learner: reader.byte()? != 0,
    })
}

/// A command's bytes after its tag (see `codec`).
pub(crate) fn put_command(out: &mut Vec<u8>, command: &MemberCommand) {
    match command {
        MemberCommand::Publish { id, name, client_urls } => {
            out.push(0x20);
            put_uint(out, *id);
            put_bytes(out, name.as_bytes());
            put_texts(out, client_urls);
        }
        MemberCommand::Update { id, peer_urls } => {
            out.push(0x21);
            put_uint(out, *id);
            put_texts(out, peer_urls);
        }
    }
}

pub(crate) fn read_command(tag: u8, reader: &mut Reader<'_>) -> Result<MemberCommand, DecodeError> {
    match tag {
        0x20 => Ok(MemberCommand::Publish { id: reader.uint()?, name: read_text(reader)?, client_urls: reader.list(read_text)? }),
        0x21 => Ok(MemberCommand::Update { id: reader.uint()?, peer_urls: reader.list(read_text)? }),
        _ => Err(DecodeError("an unknown command about members")),
    }
}

pub(super) fn encode_changes(out: &mut Vec<u8>, changes: &[MemberChange]) {
    put_uint(out, changes.len() as u64);
    for change in changes {
        match change {
            MemberChange::Add(member) => {
                out.push(0);
                put_member(out, member);
            }
            MemberChange::Promote(id) => {
                out.push(1);
                put_uint(out, *id);
            }
            MemberChange::Remove(id) => {
                out.push(2);
                put_uint(out, *id);
            }
        }
    }
}

pub(super) fn decode_changes(bytes: &[u8]) -> Result<Vec<MemberChange>, DecodeError> {
    let mut reader = Reader(bytes);
    let changes = reader.list(|reader| match reader.byte()? {
        0 => Ok(MemberChange::Add(read_member(reader)?)),
        1 => Ok(MemberChange::Promote(reader.uint()?)),
        2 => Ok(MemberChange::Remove(reader.uint()?)),
        _ => Err(DecodeError("an unknown change of the members")),
    })?;
    reader.end()?;
    Ok(changes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(id: u64, is_learner: bool) -> Member {
        Member { id, peer_urls: vec![format!("http://{id}")], is_learner, ..Member::default() }
    }

    fn three() -> Cluster {
        let mut cluster = Cluster::default();
        cluster.change(&[1, 2, 3].map(|id| MemberChange::Add(member(id, false)))).unwrap();
        cluster
    }

    #[test]
    fn changes_are_checked() {
        let check = |changes: &[MemberChange], expected: Result<(), KvError>| {
            let mut cluster = three();
            assert_eq!(cluster.change(changes), expected, "{changes:?}");
            if expected.is_err() {
                assert_eq!(cluster, three(), "none is made");
            }
        };
        check(&[MemberChange::Add(member(4, true))], Ok(()));
        check(&[MemberChange::Add(member(4, true)), MemberChange::Promote(4)], Ok(()));
        check(&[MemberChange::Add(member(3, true))], Err(KvError::MemberExists));
        check(&[MemberChange::Remove(3), MemberChange::Add(member(3, false))], Err(KvError::MemberExists));
        check(&[MemberChange::Add(Member { id: 9, ..member(3, false) })], Err(KvError::PeerUrlExists));
        check(&[MemberChange::Promote(3)], Err(KvError::MemberNotLearner));
        check(&[MemberChange::Promote(7)], Err(KvError::MemberNotFound));
        check(&[MemberChange::Remove(7)], Err(KvError::MemberNotFound));
        check(&[1, 2, 3].map(MemberChange::Remove), Err(KvError::NotEnoughStarted));
    }

    #[test]
    fn attributes() {
        let mut cluster = three();
        let update = |id, url: &str| MemberCommand::Update { id, peer_urls: vec![url.into()] };
        assert_eq!(cluster.command(update(2, "http://3")), Err(KvError::PeerUrlExists));
        assert_eq!(cluster.command(update(9, "http://9")), Err(KvError::MemberNotFound));
        assert_eq!(cluster.command(update(2, "http://2b")), Ok(()));
        let publish = MemberCommand::Publish { id: 2, name: "two".into(), client_urls: vec!["c".into()] };
        assert_eq!(cluster.command(publish), Ok(()));
        assert_eq!(cluster.members[&2].peer_urls, ["http://2b"]);
        assert!(cluster.members[&2].is_started() && !cluster.members[&1].is_started());
    }

    #[test]
    fn a_section_survives() {
        let mut cluster = three();
        cluster.change(&[MemberChange::Remove(2), MemberChange::Add(member(5, true))]).unwrap();
        cluster.conf =
            Conf { voters: vec![1, 3], learners: vec![5], voters_outgoing: vec![1, 2, 3], learners_next: vec![], auto_leave: true };
        cluster.term = 7;
        let bytes = cluster.encode();
        assert_eq!(Cluster::decode(&bytes).unwrap(), cluster);
        for cut in 0..bytes.len() {
            assert!(Cluster::decode(&bytes[..cut]).is_err());
        }
    }
}
