//! What a request must fulfil whatever the state is: etcd's checks before a proposal (server/etcdserver/api/v3rpc/key.go).

use std::collections::HashSet;

use bytes::Bytes;

use crate::kv::{KeyRange, KvError, Op, PutRequest, Txn};

/// How deep transactions may be nested: what etcd's protobuf decoder lets through.
pub(crate) const MAX_DEPTH: usize = 100;

/// Checks a whole transaction; `max_ops` bounds each list of each level.
pub(crate) fn txn(txn: &Txn, max_ops: usize) -> Result<(), KvError> {
    shape(txn, max_ops, 0)?;
    writes(&txn.success)?;
    writes(&txn.failure)?;
    Ok(())
}

/// Whether no branch of the transaction can write.
pub(crate) fn is_read_only(txn: &Txn) -> bool {
    txn.success.iter().chain(&txn.failure).all(|op| match op {
        Op::Range(_) => true,
        Op::Put(_) | Op::Delete(_) => false,
        Op::Txn(inner) => is_read_only(inner),
    })
}

/// Whether every range of the transaction may be answered from one member's state.
pub(crate) fn is_serializable(txn: &Txn) -> bool {
    txn.success.iter().chain(&txn.failure).all(|op| match op {
        Op::Range(request) => request.serializable,
        Op::Put(_) | Op::Delete(_) => false,
        // etcd looks no deeper (server/etcdserver/txn/txn.go, IsTxnSerializable).
        Op::Txn(_) => false,
    })
}

/// Whether some branch of the transaction can make the store bigger.
pub(crate) fn has_put(txn: &Txn) -> bool {
    txn.success.iter().chain(&txn.failure).any(|op| match op {
        Op::Put(_) => true,
        Op::Range(_) | Op::Delete(_) => false,
        Op::Txn(inner) => has_put(inner),
    })
}

fn shape(txn: &Txn, max_ops: usize, depth: usize) -> Result<(), KvError> {
    let ops = txn.compare.len().max(txn.success.len()).max(txn.failure.len());
    if ops > max_ops || depth > MAX_DEPTH {
        return Err(KvError::TooManyOps);
    }
    for compare in &txn.compare {
        key(&compare.range.key)?;
    }
    for op in txn.success.iter().chain(&txn.failure) {
        match op {
            Op::Range(request) => key(&request.range.key)?,
            Op::Delete(request) => key(&request.range.key)?,
            Op::Put(request) => put(request)?,
            Op::Txn(inner) => shape(inner, max_ops - ops, depth + 1)?,
        }
    }
    Ok(())
}

fn put(request: &PutRequest) -> Result<(), KvError> {
    key(&request.key)?;
    if request.ignore_value && !request.value.is_empty() {
        return Err(KvError::ValueProvided);
    }
    if request.ignore_lease && request.lease != 0 {
        return Err(KvError::LeaseProvided);
    }
    Ok(())
}

pub(crate) fn key(key: &[u8]) -> Result<(), KvError> {
    if key.is_empty() { Err(KvError::EmptyKey) } else { Ok(()) }
}

/// What one level and the levels below it may write.
#[derive(Default)]
struct Writes<'a> {
    puts: HashSet<&'a Bytes>,
    deletes: Vec<&'a KeyRange>,
}

impl<'a> Writes<'a> {
    fn put(&mut self, key: &'a Bytes, also_in: Option<&HashSet<&Bytes>>) -> Result<(), KvError> {
        if self.deletes.iter().any(|range| range.contains(key)) {
            return Err(KvError::DuplicateKey);
        }
        if !self.puts.insert(key) && !also_in.is_some_and(|other| other.contains(key)) {
            return Err(KvError::DuplicateKey);
        }
        Ok(())
    }
}

/// No key may be written twice on any path, except that both branches of an inner transaction may write it (checkIntervals in the file above).
fn writes(ops: &[Op]) -> Result<Writes<'_>, KvError> {
    let mut all = Writes::default();
    all.deletes.extend(ops.iter().filter_map(|op| if let Op::Delete(request) = op { Some(&request.range) } else { None }));
    for op in ops {
        let Op::Txn(inner) = op else { continue };
        let success = writes(&inner.success)?;
        let failure = writes(&inner.failure)?;
        for key in &success.puts {
            all.put(key, None)?;
        }
        for key in &failure.puts {
            all.put(key, Some(&success.puts))?;
        }
        all.deletes.extend(success.deletes);
        all.deletes.extend(failure.deletes);
    }
    for op in ops {
        if let Op::Put(request) = op {
            all.put(&request.key, None)?;
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kv::DeleteRequest;

    fn put_op(key: &'static str) -> Op {
        Op::Put(PutRequest::new(key, "v"))
    }

    fn delete_op(range: KeyRange) -> Op {
        Op::Delete(DeleteRequest { range, prev_kv: false })
    }

    fn both(success: Vec<Op>, failure: Vec<Op>) -> Op {
        Op::Txn(Txn { compare: vec![], success, failure })
    }

    #[test]
    fn keys_are_written_once() {
        let check = |ops: Vec<Op>, good: bool| {
            let result = txn(&Txn { success: ops.clone(), ..Txn::default() }, 128);
            assert_eq!(result, if good { Ok(()) } else { Err(KvError::DuplicateKey) }, "{ops:?}");
        };
        check(vec![put_op("a"), put_op("b")], true);
        check(vec![put_op("a"), put_op("a")], false);
        check(vec![put_op("a"), delete_op(KeyRange::prefix("a"))], false);
        check(vec![delete_op(KeyRange::one("a")), delete_op(KeyRange::prefix("a"))], true);
        check(vec![both(vec![put_op("a")], vec![put_op("a")])], true);
        check(vec![both(vec![put_op("a")], vec![]), put_op("a")], false);
        check(vec![both(vec![put_op("a")], vec![put_op("a")]), both(vec![put_op("a")], vec![])], false);
        check(vec![both(vec![put_op("a")], vec![]), delete_op(KeyRange::one("a"))], false);
        check(vec![both(vec![delete_op(KeyRange::one("a"))], vec![]), put_op("a")], false);
    }

    #[test]
    fn shapes() {
        let check = |ops: Vec<Op>, expected: Result<(), KvError>| assert_eq!(txn(&Txn { success: ops, ..Txn::default() }, 2), expected);
        check(vec![put_op("a"), put_op("b"), put_op("c")], Err(KvError::TooManyOps));
        check(vec![both(vec![put_op("a")], vec![])], Ok(()));
        check(vec![both(vec![put_op("a"), put_op("b")], vec![])], Err(KvError::TooManyOps));
        check(vec![put_op("")], Err(KvError::EmptyKey));
        check(vec![Op::Put(PutRequest { ignore_value: true, ..PutRequest::new("a", "v") })], Err(KvError::ValueProvided));
        check(vec![Op::Put(PutRequest { ignore_lease: true, lease: 1, ..PutRequest::new("a", "v") })], Err(KvError::LeaseProvided));
    }
}
