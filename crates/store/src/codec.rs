//! Commands as bytes, as the log keeps them (and peers will send them). Decoding never panics and never allocates more than its input holds.
//!
//! Integers are LEB128 of their 64 bits, byte strings are length-prefixed, lists are count-prefixed, choices are one byte.

use bytes::Bytes;

use crate::check::MAX_DEPTH;
use crate::kv::*;
use crate::raft::cluster as members;
use crate::state::Command;
use crate::{alarms, auth};

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0}")]
pub(crate) struct DecodeError(pub &'static str);

#[cfg(any(test, feature = "fuzz"))]
pub(crate) fn encode(command: &Command) -> Vec<u8> {
    encode_after(0, command)
}

/// The command after so many zeros, which somebody fills in later.
pub(crate) fn encode_after(room: usize, command: &Command) -> Vec<u8> {
    let mut out = Vec::with_capacity(256);
    out.resize(room, 0);
    put_command(&mut out, command);
    out
}

fn put_command(out: &mut Vec<u8>, command: &Command) {
    match command {
        Command::Txn(txn) => {
            out.push(1);
            put_txn(out, txn);
        }
        Command::Compact(revision) => {
            out.push(2);
            put_int(out, *revision);
        }
        Command::LeaseGrant { id, ttl_ms } => {
            out.push(3);
            put_int(out, *id);
            put_uint(out, *ttl_ms);
        }
        Command::LeaseRevoke(id) => {
            out.push(4);
            put_int(out, *id);
        }
        Command::LeaseCheckpoint(remaining) => {
            out.push(5);
            put_uint(out, remaining.len() as u64);
            for (id, remaining_ms) in remaining {
                put_int(out, *id);
                put_uint(out, *remaining_ms);
            }
        }
        Command::Member(command) => members::put_command(out, command),
        Command::Auth(command) => {
            out.push(0x30);
            auth::encode_command(out, command);
        }
        Command::Alarm(alarm, is_on) => {
            out.push(if *is_on { 0x40 } else { 0x41 });
            alarms::encode(out, *alarm);
        }
        Command::As(caller, command) => {
            out.push(0x31);
            auth::encode_caller(out, caller);
            put_command(out, command);
        }
    }
}

pub(crate) fn put_uint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

pub(crate) fn put_int(out: &mut Vec<u8>, value: i64) {
    put_uint(out, value as u64);
}

pub(crate) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_uint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

pub(crate) fn put_range(out: &mut Vec<u8>, range: &KeyRange) {
    put_bytes(out, &range.key);
    match &range.end {
        None => out.push(0),
        Some(end) => {
            out.push(1);
            put_bytes(out, end);
        }
    }
}

fn put_txn(out: &mut Vec<u8>, txn: &Txn) {
    put_uint(out, txn.compare.len() as u64);
    for compare in &txn.compare {
        put_compare(out, compare);
    }
    for ops in [&txn.success, &txn.failure] {
        put_uint(out, ops.len() as u64);
        for op in ops {
            put_op(out, op);
        }
    }
}

fn put_compare(out: &mut Vec<u8>, compare: &Compare) {
    put_range(out, &compare.range);
    out.push(compare.op as u8);
    match &compare.target {
        CompareTarget::Version(value) => put_tagged(out, 0, *value),
        CompareTarget::Create(value) => put_tagged(out, 1, *value),
        CompareTarget::Mod(value) => put_tagged(out, 2, *value),
        CompareTarget::Lease(value) => put_tagged(out, 3, *value),
        CompareTarget::Value(value) => {
            out.push(4);
            put_bytes(out, value);
        }
    }
}

fn put_tagged(out: &mut Vec<u8>, tag: u8, value: i64) {
    out.push(tag);
    put_int(out, value);
}

fn flags<const N: usize>(flags: [bool; N]) -> u8 {
    flags.iter().rev().fold(0, |all, flag| all << 1 | u8::from(*flag))
}

fn put_op(out: &mut Vec<u8>, op: &Op) {
    match op {
        Op::Range(request) => {
            out.push(0);
            put_range(out, &request.range);
            put_uint(out, request.limit as u64);
            put_int(out, request.revision);
            out.push(request.sort_order as u8);
            out.push(request.sort_target as u8);
            out.push(flags([request.serializable, request.keys_only, request.count_only]));
            put_int(out, request.min_mod_revision);
            put_int(out, request.max_mod_revision);
            put_int(out, request.min_create_revision);
            put_int(out, request.max_create_revision);
        }
        Op::Put(request) => {
            out.push(1);
            put_bytes(out, &request.key);
            put_bytes(out, &request.value);
            put_int(out, request.lease);
            out.push(flags([request.prev_kv, request.ignore_value, request.ignore_lease]));
        }
        Op::Delete(request) => {
            out.push(2);
            put_range(out, &request.range);
            out.push(flags([request.prev_kv]));
        }
        Op::Txn(inner) => {
            out.push(3);
            put_txn(out, inner);
        }
    }
}

pub(crate) fn decode(input: &[u8]) -> Result<Command, DecodeError> {
    let mut reader = Reader(input);
    let command = reader.command()?;
    reader.end()?;
    Ok(command)
}

/// Takes values off the front of bytes.
pub(crate) struct Reader<'a>(pub &'a [u8]);

impl<'a> Reader<'a> {
    pub fn byte(&mut self) -> Result<u8, DecodeError> {
        let (first, rest) = self.0.split_first().ok_or(DecodeError("the input ends too early"))?;
        self.0 = rest;
        Ok(*first)
    }

    pub fn uint(&mut self) -> Result<u64, DecodeError> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            if shift == 63 && byte > 1 {
                break;
            }
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(DecodeError("an integer of more than 64 bits"))
    }

    pub fn int(&mut self) -> Result<i64, DecodeError> {
        Ok(self.uint()? as i64)
    }

    /// Eight bytes, the lowest first.
    pub fn fixed(&mut self) -> Result<u64, DecodeError> {
        let (taken, rest) = self.0.split_first_chunk::<8>().ok_or(DecodeError("the input ends too early"))?;
        self.0 = rest;
        Ok(u64::from_le_bytes(*taken))
    }

    pub fn slice(&mut self) -> Result<&'a [u8], DecodeError> {
        let length = usize::try_from(self.uint()?).map_err(|_| DecodeError("a length beyond the input"))?;
        let (taken, rest) = self.0.split_at_checked(length).ok_or(DecodeError("a length beyond the input"))?;
        self.0 = rest;
        Ok(taken)
    }

    pub fn bytes(&mut self) -> Result<Bytes, DecodeError> {
        Ok(Bytes::copy_from_slice(self.slice()?))
    }

    pub fn end(&self) -> Result<(), DecodeError> {
        if self.0.is_empty() { Ok(()) } else { Err(DecodeError("bytes after the end")) }
    }

    fn flags(&mut self, known: u8) -> Result<[bool; 3], DecodeError> {
        let byte = self.byte()?;
        if byte >> known != 0 {
            return Err(DecodeError("an unknown flag"));
        }
        Ok([byte & 1 != 0, byte & 2 != 0, byte & 4 != 0])
    }

    pub fn list<T>(&mut self, mut item: impl FnMut(&mut Self) -> Result<T, DecodeError>) -> Result<Vec<T>, DecodeError> {
        let count = self.uint()?;
        // Each item takes a byte at least: a false count cannot make us allocate.
        if count > self.0.len() as u64 {
            return Err(DecodeError("a count beyond the input"));
        }
        (0..count).map(|_| item(self)).collect()
    }

    pub fn range(&mut self) -> Result<KeyRange, DecodeError> {
        let key = self.bytes()?;
        let end = match self.byte()? {
            0 => None,
            1 => Some(self.bytes()?),
            _ => return Err(DecodeError("an unknown kind of range")),
        };
        Ok(KeyRange { key, end })
    }

    fn command(&mut self) -> Result<Command, DecodeError> {
        match self.byte()? {
            0x31 => Ok(Command::As(auth::decode_caller(self)?, Box::new(self.plain_command(None)?))),
            tag => self.plain_command(Some(tag)),
        }
    }

    /// A command in nobody's name; its tag may have been read.
    fn plain_command(&mut self, tag: Option<u8>) -> Result<Command, DecodeError> {
        Ok(match tag.map_or_else(|| self.byte(), Ok)? {
            1 => Command::Txn(self.txn(0)?),
            2 => Command::Compact(self.int()?),
            3 => Command::LeaseGrant { id: self.int()?, ttl_ms: self.uint()? },
            4 => Command::LeaseRevoke(self.int()?),
            5 => Command::LeaseCheckpoint(self.list(|reader| Ok((reader.int()?, reader.uint()?)))?),
            tag @ 0x20..=0x2f => Command::Member(members::read_command(tag, self)?),
            0x30 => Command::Auth(auth::decode_command(self)?),
            0x40 => Command::Alarm(alarms::decode(self)?, true),
            0x41 => Command::Alarm(alarms::decode(self)?, false),
            _ => return Err(DecodeError("an unknown command")),
        })
    }

    fn txn(&mut self, depth: usize) -> Result<Txn, DecodeError> {
        if depth > MAX_DEPTH {
            return Err(DecodeError("transactions nested too deep"));
        }
        let compare = self.list(Self::compare)?;
        let success = self.list(|reader| reader.op(depth))?;
        let failure = self.list(|reader| reader.op(depth))?;
        Ok(Txn { compare, success, failure })
    }

    fn compare(&mut self) -> Result<Compare, DecodeError> {
        let range = self.range()?;
        let op = match self.byte()? {
            0 => CompareOp::Equal,
            1 => CompareOp::Greater,
            2 => CompareOp::Less,
            3 => CompareOp::NotEqual,
            _ => return Err(DecodeError("an unknown comparison")),
        };
        let target = match self.byte()? {
            0 => CompareTarget::Version(self.int()?),
            1 => CompareTarget::Create(self.int()?),
            2 => CompareTarget::Mod(self.int()?),
            3 => CompareTarget::Lease(self.int()?),
            4 => CompareTarget::Value(self.bytes()?),
            _ => return Err(DecodeError("an unknown target of a comparison")),
        };
        Ok(Compare { range, op, target })
    }

    fn op(&mut self, depth: usize) -> Result<Op, DecodeError> {
        Ok(match self.byte()? {
            0 => Op::Range(self.range_request()?),
            1 => {
                let (key, value, lease) = (self.bytes()?, self.bytes()?, self.int()?);
                let [prev_kv, ignore_value, ignore_lease] = self.flags(3)?;
                Op::Put(PutRequest { key, value, lease, prev_kv, ignore_value, ignore_lease })
            }
            2 => {
                let range = self.range()?;
                let [prev_kv, ..] = self.flags(1)?;
                Op::Delete(DeleteRequest { range, prev_kv })
            }
            3 => Op::Txn(self.txn(depth + 1)?),
            _ => return Err(DecodeError("an unknown operation")),
        })
    }

    fn range_request(&mut self) -> Result<RangeRequest, DecodeError> {
        let range = self.range()?;
        let limit = usize::try_from(self.uint()?).map_err(|_| DecodeError("a limit beyond this machine"))?;
        let revision = self.int()?;
        let sort_order = match self.byte()? {
            0 => SortOrder::None,
            1 => SortOrder::Ascend,
            2 => SortOrder::Descend,
            _ => return Err(DecodeError("an unknown order")),
        };
        let sort_target = match self.byte()? {
            0 => SortTarget::Key,
            1 => SortTarget::Version,
            2 => SortTarget::CreateRevision,
            3 => SortTarget::ModRevision,
            4 => SortTarget::Value,
            _ => return Err(DecodeError("an unknown target of an order")),
        };
        let [serializable, keys_only, count_only] = self.flags(3)?;
        Ok(RangeRequest {
            range,
            limit,
            revision,
            sort_order,
            sort_target,
            serializable,
            keys_only,
            count_only,
            min_mod_revision: self.int()?,
            max_mod_revision: self.int()?,
            min_create_revision: self.int()?,
            max_create_revision: self.int()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::alarms::{Alarm, AlarmKind};
    use crate::auth::{AuthCommand, Caller, PasswordHash, Permission, PermissionKind};

    fn all_kinds() -> Vec<Command> {
        let range = RangeRequest {
            limit: 300,
            revision: -1,
            sort_order: SortOrder::Descend,
            sort_target: SortTarget::Value,
            serializable: true,
            count_only: true,
            max_mod_revision: i64::MAX,
            ..RangeRequest::new(KeyRange::prefix("/p/"))
        };
        let targets = [
            CompareTarget::Version(1),
            CompareTarget::Create(2),
            CompareTarget::Mod(i64::MIN),
            CompareTarget::Lease(4),
            CompareTarget::Value("v".into()),
        ];
        let ops = [CompareOp::Equal, CompareOp::Greater, CompareOp::Less, CompareOp::NotEqual, CompareOp::Equal];
        let compare = targets.into_iter().zip(ops).map(|(target, op)| Compare { range: KeyRange::one("k"), op, target }).collect();
        let inner =
            Txn { failure: vec![Op::Delete(DeleteRequest { range: KeyRange::between("a", "\0"), prev_kv: true })], ..Txn::default() };
        let put = PutRequest { lease: 9, ignore_value: true, ..PutRequest::new("k", vec![0u8; 200]) };
        vec![
            Command::Txn(Txn { compare, success: vec![Op::Range(range), Op::Put(put)], failure: vec![Op::Txn(inner)] }),
            Command::Compact(77),
            Command::LeaseGrant { id: 1, ttl_ms: u64::MAX },
            Command::LeaseRevoke(-5),
            Command::LeaseCheckpoint(vec![(1, 2), (3, 0)]),
            Command::Auth(AuthCommand::Enable),
            Command::Alarm(Alarm { member: u64::MAX, kind: AlarmKind::NoSpace }, true),
            Command::Alarm(Alarm { member: 0, kind: AlarmKind::Corrupt }, false),
            Command::As(Caller::Server, Box::new(Command::LeaseRevoke(3))),
            Command::As(Caller::Anonymous, Box::new(Command::Auth(AuthCommand::Disable))),
            Command::As(Caller::User { name: "ä".into(), revision: 300 }, Box::new(Command::Compact(7))),
        ]
        .into_iter()
        .chain(auth_kinds().into_iter().map(Command::Auth))
        .collect()
    }

    fn auth_kinds() -> Vec<AuthCommand> {
        let (user, role, name) = (|| "u".to_owned(), || "r".to_owned(), || "n".to_owned());
        let password = || PasswordHash("$2a$".into());
        vec![
            AuthCommand::Authenticate { user: user(), nonce: "abc".into(), revision: 4 },
            AuthCommand::UserAdd { name: name(), password: password(), no_password: true },
            AuthCommand::UserDelete { name: name() },
            AuthCommand::UserChangePassword { name: name(), password: password() },
            AuthCommand::UserGrantRole { user: user(), role: role() },
            AuthCommand::UserRevokeRole { user: user(), role: role() },
            AuthCommand::RoleAdd { name: name() },
            AuthCommand::RoleDelete { name: name() },
            AuthCommand::RoleGrantPermission {
                role: role(),
                permission: Permission { kind: PermissionKind::Write, range: KeyRange::prefix("/p/") },
            },
            AuthCommand::RoleRevokePermission { role: role(), range: KeyRange::one("k") },
        ]
    }

    #[test]
    fn every_command_survives() {
        for command in all_kinds() {
            let bytes = encode(&command);
            let again = decode(&bytes).unwrap();
            assert_eq!(format!("{command:?}"), format!("{again:?}"));
            for cut in 0..bytes.len() {
                assert!(decode(&bytes[..cut]).is_err());
            }
        }
    }

    #[test]
    fn nesting_is_bounded() {
        let mut bytes = vec![1];
        for _ in 0..100_000 {
            bytes.extend([0, 1, 3]);
        }
        assert_eq!(decode(&bytes).unwrap_err(), DecodeError("transactions nested too deep"));
    }

    proptest! {
        #[test]
        fn any_bytes_decode_or_fail(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = decode(&bytes);
        }

        #[test]
        fn damaged_commands_decode_or_fail(which in 0usize..19, at in any::<prop::sample::Index>(), bit in 0u8..8) {
            let mut bytes = encode(&all_kinds()[which]);
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            let _ = decode(&bytes);
        }
    }
}
