//! The protocol's messages to and from the store's types. Pure; what a peer leaves out or gets wrong is an error or etcd's default, never a panic.

use bytes::Bytes;
use store::*;
use tonic::Status;

use crate::errors;
use crate::pb;
use pb::compare::{CompareResult, CompareTarget as Target, TargetUnion};
use pb::range_request::{SortOrder as PbOrder, SortTarget as PbTarget};
use pb::request_op::Request;
use pb::response_op::Response;

/// An empty end means one key.
pub fn key_range(key: Bytes, end: Bytes) -> KeyRange {
    KeyRange { key, end: (!end.is_empty()).then_some(end) }
}

pub fn range_end(range: KeyRange) -> (Bytes, Bytes) {
    (range.key, range.end.unwrap_or_default())
}

impl From<KeyValue> for pb::KeyValue {
    fn from(kv: KeyValue) -> Self {
        let KeyValue { key, value, create_revision, mod_revision, version, lease } = kv;
        Self { key, value, create_revision, mod_revision, version, lease }
    }
}

impl From<pb::KeyValue> for KeyValue {
    fn from(kv: pb::KeyValue) -> Self {
        let pb::KeyValue { key, value, create_revision, mod_revision, version, lease } = kv;
        Self { key, value, create_revision, mod_revision, version, lease }
    }
}

pub fn range_from_pb(request: pb::RangeRequest) -> Result<RangeRequest, Status> {
    let sort_order = match PbOrder::try_from(request.sort_order) {
        Ok(PbOrder::None) => SortOrder::None,
        Ok(PbOrder::Ascend) => SortOrder::Ascend,
        Ok(PbOrder::Descend) => SortOrder::Descend,
        Err(_) => return Err(errors::invalid_sort()),
    };
    let sort_target = match PbTarget::try_from(request.sort_target) {
        Ok(PbTarget::Key) => SortTarget::Key,
        Ok(PbTarget::Version) => SortTarget::Version,
        Ok(PbTarget::Create) => SortTarget::CreateRevision,
        Ok(PbTarget::Mod) => SortTarget::ModRevision,
        Ok(PbTarget::Value) => SortTarget::Value,
        Err(_) => return Err(errors::invalid_sort()),
    };
    Ok(RangeRequest {
        range: key_range(request.key, request.range_end),
        // Below zero there is no limit either.
        limit: usize::try_from(request.limit).unwrap_or(0),
        revision: request.revision,
        sort_order,
        sort_target,
        serializable: request.serializable,
        keys_only: request.keys_only,
        count_only: request.count_only,
        min_mod_revision: request.min_mod_revision,
        max_mod_revision: request.max_mod_revision,
        min_create_revision: request.min_create_revision,
        max_create_revision: request.max_create_revision,
    })
}

pub fn range_to_pb(request: RangeRequest) -> pb::RangeRequest {
    let sort_order = match request.sort_order {
        SortOrder::None => PbOrder::None,
        SortOrder::Ascend => PbOrder::Ascend,
        SortOrder::Descend => PbOrder::Descend,
    };
    let sort_target = match request.sort_target {
        SortTarget::Key => PbTarget::Key,
        SortTarget::Version => PbTarget::Version,
        SortTarget::CreateRevision => PbTarget::Create,
        SortTarget::ModRevision => PbTarget::Mod,
        SortTarget::Value => PbTarget::Value,
    };
    let (key, range_end) = range_end(request.range);
    pb::RangeRequest {
        key,
        range_end,
        limit: i64::try_from(request.limit).unwrap_or(i64::MAX),
        revision: request.revision,
        sort_order: sort_order.into(),
        sort_target: sort_target.into(),
        serializable: request.serializable,
        keys_only: request.keys_only,
        count_only: request.count_only,
        min_mod_revision: request.min_mod_revision,
        max_mod_revision: request.max_mod_revision,
        min_create_revision: request.min_create_revision,
        max_create_revision: request.max_create_revision,
    }
}

pub fn put_from_pb(request: pb::PutRequest) -> PutRequest {
    let pb::PutRequest { key, value, lease, prev_kv, ignore_value, ignore_lease } = request;
    PutRequest { key, value, lease, prev_kv, ignore_value, ignore_lease }
}

pub fn put_to_pb(request: PutRequest) -> pb::PutRequest {
    let PutRequest { key, value, lease, prev_kv, ignore_value, ignore_lease } = request;
    pb::PutRequest { key, value, lease, prev_kv, ignore_value, ignore_lease }
}

pub fn delete_from_pb(request: pb::DeleteRangeRequest) -> DeleteRequest {
    DeleteRequest { range: key_range(request.key, request.range_end), prev_kv: request.prev_kv }
}

pub fn delete_to_pb(request: DeleteRequest) -> pb::DeleteRangeRequest {
    let (key, range_end) = range_end(request.range);
    pb::DeleteRangeRequest { key, range_end, prev_kv: request.prev_kv }
}

fn compare_from_pb(compare: pb::Compare) -> Result<Compare, Status> {
    let op = match CompareResult::try_from(compare.result) {
        Ok(CompareResult::Equal) => CompareOp::Equal,
        Ok(CompareResult::Greater) => CompareOp::Greater,
        Ok(CompareResult::Less) => CompareOp::Less,
        Ok(CompareResult::NotEqual) => CompareOp::NotEqual,
        Err(_) => return Err(Status::invalid_argument(format!("etcdserver: unknown compare result {}", compare.result))),
    };
    // A value of another target than the named one counts as absent, and absent as zero (server/etcdserver/apply.go, applyCompare).
    let number = |value: Option<i64>| value.unwrap_or(0);
    let union = compare.target_union;
    let target = match Target::try_from(compare.target) {
        Ok(Target::Version) => CompareTarget::Version(number(if let Some(TargetUnion::Version(v)) = union { Some(v) } else { None })),
        Ok(Target::Create) => CompareTarget::Create(number(if let Some(TargetUnion::CreateRevision(v)) = union { Some(v) } else { None })),
        Ok(Target::Mod) => CompareTarget::Mod(number(if let Some(TargetUnion::ModRevision(v)) = union { Some(v) } else { None })),
        Ok(Target::Lease) => CompareTarget::Lease(number(if let Some(TargetUnion::Lease(v)) = union { Some(v) } else { None })),
        Ok(Target::Value) => CompareTarget::Value(if let Some(TargetUnion::Value(v)) = union { v } else { Bytes::new() }),
        Err(_) => return Err(Status::invalid_argument(format!("etcdserver: unknown compare target {}", compare.target))),
    };
    Ok(Compare { range: key_range(compare.key, compare.range_end), op, target })
}

fn compare_to_pb(compare: Compare) -> pb::Compare {
    let result = match compare.op {
        CompareOp::Equal => CompareResult::Equal,
        CompareOp::Greater => CompareResult::Greater,
        CompareOp::Less => CompareResult::Less,
        CompareOp::NotEqual => CompareResult::NotEqual,
    };
    let (target, union) = match compare.target {
        CompareTarget::Version(v) => (Target::Version, TargetUnion::Version(v)),
        CompareTarget::Create(v) => (Target::Create, TargetUnion::CreateRevision(v)),
        CompareTarget::Mod(v) => (Target::Mod, TargetUnion::ModRevision(v)),
        CompareTarget::Value(v) => (Target::Value, TargetUnion::Value(v)),
        CompareTarget::Lease(v) => (Target::Lease, TargetUnion::Lease(v)),
    };
    let (key, range_end) = range_end(compare.range);
    pb::Compare { result: result.into(), target: target.into(), key, range_end, target_union: Some(union) }
}

pub fn txn_from_pb(request: pb::TxnRequest) -> Result<Txn, Status> {
    Ok(Txn {
        compare: request.compare.into_iter().map(compare_from_pb).collect::<Result<_, _>>()?,
        success: request.success.into_iter().map(op_from_pb).collect::<Result<_, _>>()?,
        failure: request.failure.into_iter().map(op_from_pb).collect::<Result<_, _>>()?,
    })
}

fn op_from_pb(op: pb::RequestOp) -> Result<Op, Status> {
    match op.request {
        Some(Request::RequestRange(request)) => range_from_pb(request).map(Op::Range),
        Some(Request::RequestPut(request)) => Ok(Op::Put(put_from_pb(request))),
        Some(Request::RequestDeleteRange(request)) => Ok(Op::Delete(delete_from_pb(request))),
        Some(Request::RequestTxn(request)) => txn_from_pb(request).map(Op::Txn),
        // An operation without content is refused with this text (v3rpc/key.go, checkRequestOp).
        None => Err(errors::to_status(KvError::KeyNotFound)),
    }
}

pub fn txn_to_pb(txn: Txn) -> pb::TxnRequest {
    pb::TxnRequest {
        compare: txn.compare.into_iter().map(compare_to_pb).collect(),
        success: txn.success.into_iter().map(op_to_pb).collect(),
        failure: txn.failure.into_iter().map(op_to_pb).collect(),
    }
}

fn op_to_pb(op: Op) -> pb::RequestOp {
    let request = match op {
        Op::Range(request) => Request::RequestRange(range_to_pb(request)),
        Op::Put(request) => Request::RequestPut(put_to_pb(request)),
        Op::Delete(request) => Request::RequestDeleteRange(delete_to_pb(request)),
        Op::Txn(txn) => Request::RequestTxn(txn_to_pb(txn)),
    };
    pb::RequestOp { request: Some(request) }
}

pub fn range_response_to_pb(response: RangeResponse, header: Option<pb::ResponseHeader>) -> pb::RangeResponse {
    pb::RangeResponse { header, kvs: response.kvs.into_iter().map(Into::into).collect(), more: response.more, count: response.count }
}

pub fn range_response_from_pb(response: pb::RangeResponse) -> RangeResponse {
    RangeResponse {
        revision: revision_of(&response.header),
        kvs: response.kvs.into_iter().map(Into::into).collect(),
        more: response.more,
        count: response.count,
    }
}

pub fn revision_of(header: &Option<pb::ResponseHeader>) -> Revision {
    header.as_ref().map_or(0, |header| header.revision)
}

/// The answer to a transaction. Inside it etcd's headers carry only the revision that the operation saw or made, an inner transaction's none.
pub fn txn_response_to_pb(response: TxnResponse, header: pb::ResponseHeader) -> pb::TxnResponse {
    let writes = wrote(&response);
    let mut current = if writes { response.revision - 1 } else { response.revision };
    let responses = responses_to_pb(response.responses, response.revision, &mut current);
    pb::TxnResponse { header: Some(header), succeeded: response.succeeded, responses }
}

fn wrote(response: &TxnResponse) -> bool {
    response.responses.iter().any(|response| match response {
        OpResponse::Range(_) => false,
        OpResponse::Put(_) => true,
        OpResponse::Delete { deleted, .. } => *deleted > 0,
        OpResponse::Txn(inner) => wrote(inner),
    })
}

fn responses_to_pb(responses: Vec<OpResponse>, after: Revision, current: &mut Revision) -> Vec<pb::ResponseOp> {
    let mut converted = Vec::with_capacity(responses.len());
    for response in responses {
        let response = match response {
            OpResponse::Range(response) => Response::ResponseRange(range_response_to_pb(response, seen(*current))),
            OpResponse::Put(previous) => {
                *current = after;
                Response::ResponsePut(pb::PutResponse { header: seen(after), prev_kv: previous.map(Into::into) })
            }
            OpResponse::Delete { deleted, prev_kvs } => {
                if deleted > 0 {
                    *current = after;
                }
                let prev_kvs = prev_kvs.into_iter().map(Into::into).collect();
                Response::ResponseDeleteRange(pb::DeleteRangeResponse { header: seen(*current), deleted, prev_kvs })
            }
            OpResponse::Txn(inner) => {
                let responses = responses_to_pb(inner.responses, after, current);
                let header = Some(pb::ResponseHeader::default());
                Response::ResponseTxn(pb::TxnResponse { header, succeeded: inner.succeeded, responses })
            }
        };
        converted.push(pb::ResponseOp { response: Some(response) });
    }
    converted
}

fn seen(revision: Revision) -> Option<pb::ResponseHeader> {
    Some(pb::ResponseHeader { revision, ..pb::ResponseHeader::default() })
}

pub fn txn_response_from_pb(response: pb::TxnResponse) -> Result<TxnResponse, KvError> {
    let revision = revision_of(&response.header);
    inner_response_from_pb(response, revision)
}

/// Inner transactions have no revision of their own.
fn inner_response_from_pb(response: pb::TxnResponse, revision: Revision) -> Result<TxnResponse, KvError> {
    let mut responses = Vec::with_capacity(response.responses.len());
    for op in response.responses {
        responses.push(match op.response {
            Some(Response::ResponseRange(response)) => OpResponse::Range(range_response_from_pb(response)),
            Some(Response::ResponsePut(response)) => OpResponse::Put(response.prev_kv.map(Into::into)),
            Some(Response::ResponseDeleteRange(response)) => {
                OpResponse::Delete { deleted: response.deleted, prev_kvs: response.prev_kvs.into_iter().map(Into::into).collect() }
            }
            Some(Response::ResponseTxn(inner)) => OpResponse::Txn(inner_response_from_pb(inner, revision)?),
            None => return Err(KvError::Internal("the server answered a transaction without one of its responses".into())),
        });
    }
    Ok(TxnResponse { revision, succeeded: response.succeeded, responses })
}

pub fn event_to_pb(event: Event) -> pb::Event {
    let kind = match event.kind {
        EventKind::Put => pb::mvccpb::event::EventType::Put,
        EventKind::Delete => pb::mvccpb::event::EventType::Delete,
    };
    pb::Event { r#type: kind.into(), kv: Some(event.kv.into()), prev_kv: event.prev_kv.map(Into::into) }
}

pub fn event_from_pb(event: pb::Event) -> Result<Event, KvError> {
    let kind = if event.r#type == i32::from(pb::mvccpb::event::EventType::Delete) { EventKind::Delete } else { EventKind::Put };
    let kv = event.kv.ok_or_else(|| KvError::Internal("the server sent an event without a key".into()))?;
    Ok(Event { kind, kv: kv.into(), prev_kv: event.prev_kv.map(Into::into) })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The revisions in the headers of a transaction's parts.
    fn revisions(response: &pb::TxnResponse) -> Vec<Revision> {
        let of = |op: &pb::ResponseOp| match op.response.as_ref().unwrap() {
            Response::ResponseRange(r) => vec![revision_of(&r.header)],
            Response::ResponsePut(r) => vec![revision_of(&r.header)],
            Response::ResponseDeleteRange(r) => vec![revision_of(&r.header)],
            Response::ResponseTxn(r) => revisions(r),
        };
        response.responses.iter().flat_map(of).collect()
    }

    #[test]
    fn each_part_tells_the_revision_that_it_saw() {
        let range = || OpResponse::Range(RangeResponse::default());
        let delete = |deleted| OpResponse::Delete { deleted, prev_kvs: vec![] };
        let check = |responses: Vec<OpResponse>, expected: &[Revision]| {
            let response = TxnResponse { revision: 9, succeeded: true, responses };
            assert_eq!(revisions(&txn_response_to_pb(response, pb::ResponseHeader::default())), expected);
        };
        check(vec![range(), delete(0)], &[9, 9]);
        check(vec![range(), delete(0), OpResponse::Put(None), range(), delete(0)], &[8, 8, 9, 9, 9]);
        let inner = OpResponse::Txn(TxnResponse { revision: 9, succeeded: true, responses: vec![range(), delete(2)] });
        check(vec![range(), inner, range()], &[8, 8, 9, 9]);
    }

    #[test]
    fn wrong_enums_are_refused() {
        assert!(range_from_pb(pb::RangeRequest { sort_order: 9, ..Default::default() }).is_err());
        assert!(range_from_pb(pb::RangeRequest { sort_target: -1, ..Default::default() }).is_err());
        let compare = pb::Compare { result: 7, ..Default::default() };
        assert!(txn_from_pb(pb::TxnRequest { compare: vec![compare], ..Default::default() }).is_err());
        assert!(txn_from_pb(pb::TxnRequest { success: vec![pb::RequestOp::default()], ..Default::default() }).is_err());
    }
}
