//! Raft's messages as bytes. Nothing that a peer sends may panic: what comes out of `decode` has the shape that Raft takes for granted.
//!
//! Format 1: version u8 | type u8 | from | term | log term | index | commit | commit term | request snapshot | reject hint | reject u8 | context |
//! entries (kind u8 | term | index | data) | snapshot (0, or 1 | index | term | configuration). Integers are LEB128, bytes are length-prefixed.

use bytes::Bytes;
use raft::eraftpb::{Entry, EntryType, Message, MessageType, Snapshot};

use super::MessageKind;
use super::cluster::{put_conf, read_conf};
use super::records::{conf_from_raft, conf_to_raft, kind_from_byte, kind_to_byte};
use crate::codec::{DecodeError, Reader, put_bytes, put_uint};

const FORMAT: u8 = 1;
/// The types that travel, by their byte.
const TYPES: [MessageType; 13] = [
    MessageType::MsgPropose,
    MessageType::MsgAppend,
    MessageType::MsgAppendResponse,
    MessageType::MsgRequestVote,
    MessageType::MsgRequestVoteResponse,
    MessageType::MsgSnapshot,
    MessageType::MsgHeartbeat,
    MessageType::MsgHeartbeatResponse,
    MessageType::MsgTimeoutNow,
    MessageType::MsgReadIndex,
    MessageType::MsgReadIndexResp,
    MessageType::MsgRequestPreVote,
    MessageType::MsgRequestPreVoteResponse,
];

pub(super) fn kind(message: &Message) -> MessageKind {
    match message.get_msg_type() {
        MessageType::MsgHeartbeat | MessageType::MsgHeartbeatResponse | MessageType::MsgReadIndex | MessageType::MsgReadIndexResp => {
            MessageKind::Heartbeat
        }
        MessageType::MsgRequestVote
        | MessageType::MsgRequestVoteResponse
        | MessageType::MsgRequestPreVote
        | MessageType::MsgRequestPreVoteResponse
        | MessageType::MsgTimeoutNow => MessageKind::Vote,
        MessageType::MsgAppend | MessageType::MsgAppendResponse => MessageKind::Append,
        _ => MessageKind::Other,
    }
}

/// `None` for a type that stays inside a member.
pub(super) fn encode(message: &Message) -> Option<Bytes> {
    let place = TYPES.iter().position(|kind| *kind == message.get_msg_type())?;
    let data: usize = message.entries.iter().map(|entry| entry.data.len() + 24).sum();
    let mut out = Vec::with_capacity(96 + message.context.len() + data);
    out.extend([FORMAT, u8::try_from(place).ok()?]);
    for value in [
        message.from,
        message.term,
        message.log_term,
        message.index,
        message.commit,
        message.commit_term,
        message.request_snapshot,
        message.reject_hint,
    ] {
        put_uint(&mut out, value);
    }
    out.push(u8::from(message.reject));
    put_bytes(&mut out, &message.context);
    put_uint(&mut out, message.entries.len() as u64);
    for entry in &message.entries {
        out.push(kind_to_byte(entry.get_entry_type()));
        put_uint(&mut out, entry.term);
        put_uint(&mut out, entry.index);
        put_bytes(&mut out, &entry.data);
    }
    let snapshot = message.get_snapshot();
    if snapshot.is_empty() {
        out.push(0);
    } else {
        out.push(1);
        put_uint(&mut out, snapshot.get_metadata().index);
        put_uint(&mut out, snapshot.get_metadata().term);
        put_conf(&mut out, &conf_from_raft(snapshot.get_metadata().get_conf_state()));
    }
    Some(out.into())
}

pub(super) fn decode(bytes: &Bytes, to: u64) -> Result<Message, DecodeError> {
    let mut reader = Reader(bytes);
    if reader.byte()? != FORMAT {
        return Err(DecodeError("a message of another version"));
    }
    let kind = *TYPES.get(usize::from(reader.byte()?)).ok_or(DecodeError("an unknown type of message"))?;
    let mut message = Message { to, ..Message::default() };
    message.set_msg_type(kind);
    message.from = reader.uint()?;
    message.term = reader.uint()?;
    message.log_term = reader.uint()?;
    message.index = reader.uint()?;
    message.commit = reader.uint()?;
    message.commit_term = reader.uint()?;
    message.request_snapshot = reader.uint()?;
    message.reject_hint = reader.uint()?;
    message.reject = reader.byte()? != 0;
    message.context = reader.bytes()?;
    message.entries = reader.list(|reader| entry(bytes, reader))?.into();
    if reader.byte()? != 0 {
        let mut snapshot = Snapshot::default();
        snapshot.mut_metadata().index = reader.uint()?;
        snapshot.mut_metadata().term = reader.uint()?;
        snapshot.mut_metadata().set_conf_state(conf_to_raft(&read_conf(&mut reader)?));
        message.set_snapshot(snapshot);
    }
    reader.end()?;
    check(&message)?;
    Ok(message)
}

fn entry(bytes: &Bytes, reader: &mut Reader<'_>) -> Result<Entry, DecodeError> {
    let kind = kind_from_byte(reader.byte()?)?;
    let mut entry = Entry { term: reader.uint()?, index: reader.uint()?, ..Entry::default() };
    entry.set_entry_type(kind);
    // The data stays where it arrived.
    entry.data = bytes.slice_ref(reader.slice()?);
    if kind != EntryType::EntryNormal && !is_conf_change(&entry.data) {
        return Err(DecodeError("a change of the configuration that is none"));
    }
    Ok(entry)
}

/// Whether bytes are raft-rs's ConfChangeV2 with the fields that we write and no others: its decoder is overwhelmed by deeply nested unknown ones.
fn is_conf_change(data: &[u8]) -> bool {
    let mut reader = Reader(data);
    while let Some(tag) = reader.0.first().copied() {
        reader.0 = &reader.0[1..];
        let good = match tag {
            // transition
            0x08 => reader.uint().is_ok(),
            // changes: type and node
            0x12 => reader.slice().is_ok_and(|change| {
                let mut change = Reader(change);
                while !change.0.is_empty() {
                    if !matches!(change.byte(), Ok(0x08 | 0x10)) || change.uint().is_err() {
                        return false;
                    }
                }
                true
            }),
            // context
            0x1a => reader.slice().is_ok(),
            _ => false,
        };
        if !good {
            return false;
        }
    }
    true
}

/// What Raft panics on where it is not so.
fn check(message: &Message) -> Result<(), DecodeError> {
    let entries = &message.entries;
    match message.get_msg_type() {
        MessageType::MsgPropose if entries.is_empty() => Err(DecodeError("a proposal of nothing")),
        MessageType::MsgReadIndex | MessageType::MsgReadIndexResp if entries.len() != 1 => Err(DecodeError("a read without its name")),
        MessageType::MsgPropose | MessageType::MsgReadIndex if message.term != 0 => Err(DecodeError("a request of a term")),
        MessageType::MsgPropose | MessageType::MsgReadIndex => Ok(()),
        _ if message.term == 0 => Err(DecodeError("a message without a term")),
        MessageType::MsgAppend
            if !entries
                .iter()
                .zip(message.index.wrapping_add(1)..)
                .all(|(entry, index)| entry.index == index && entry.term <= message.term) =>
        {
            Err(DecodeError("entries with a gap"))
        }
        MessageType::MsgSnapshot if message.get_snapshot().is_empty() => Err(DecodeError("a snapshot of nothing")),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use protobuf::Message as _;
    use raft::eraftpb::{ConfChangeSingle, ConfChangeV2};

    use super::*;

    fn conf_change() -> Bytes {
        let mut single = ConfChangeSingle { node_id: 77, ..Default::default() };
        single.set_change_type(raft::eraftpb::ConfChangeType::AddLearnerNode);
        let change = ConfChangeV2 { changes: vec![single].into(), context: "who".into(), ..Default::default() };
        change.write_to_bytes().unwrap().into()
    }

    fn all() -> Vec<Message> {
        let mut append = Message { from: 1, to: 2, term: 3, log_term: 2, index: 7, commit: 6, ..Message::default() };
        append.set_msg_type(MessageType::MsgAppend);
        let mut change = Entry { term: 3, index: 9, data: conf_change(), ..Entry::default() };
        change.set_entry_type(EntryType::EntryConfChangeV2);
        append.entries = vec![Entry { term: 3, index: 8, data: "abc".into(), ..Entry::default() }, change].into();
        let mut vote = Message { from: 3, to: 2, term: 9, reject: true, context: "CampaignTransfer".into(), ..Message::default() };
        vote.set_msg_type(MessageType::MsgRequestVote);
        let mut snapshot = Message { from: 1, to: 2, term: 3, ..Message::default() };
        snapshot.set_msg_type(MessageType::MsgSnapshot);
        snapshot.mut_snapshot().mut_metadata().index = 70;
        snapshot.mut_snapshot().mut_metadata().mut_conf_state().voters = vec![1, 2, 3];
        vec![append, vote, snapshot]
    }

    #[test]
    fn messages_survive() {
        for message in all() {
            let bytes = encode(&message).unwrap();
            assert_eq!(decode(&bytes, 2).unwrap(), message);
            for cut in 0..bytes.len() {
                assert!(decode(&bytes.slice(..cut), 2).is_err());
            }
        }
        let mut local = Message::default();
        local.set_msg_type(MessageType::MsgHup);
        assert!(encode(&local).is_none());
    }

    #[test]
    fn nested_nonsense_is_no_change() {
        assert!(is_conf_change(&conf_change()) && is_conf_change(&[]));
        assert!(!is_conf_change(&[0x23; 1000]), "groups in groups");
        assert!(!is_conf_change(&[0x12, 2, 0x0b, 0x0b]), "a group in a change");
    }

    proptest! {
        #[test]
        fn damaged_messages_decode_or_fail(which in 0usize..3, at in any::<prop::sample::Index>(), bit in 0u8..8) {
            let mut bytes = encode(&all()[which]).unwrap().to_vec();
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            let _ = decode(&bytes.into(), 2);
        }
    }
}
