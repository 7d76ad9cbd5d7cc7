//! Turns the versions that a scan found into a range response: filters, order, limit, as in etcd (server/etcdserver/txn/range.go).

use std::sync::Arc;

use bytes::Bytes;

use crate::index::{Found, Version};
use crate::kv::{KeyValue, RangeRequest, RangeResponse, Revision, SortOrder, SortTarget};

/// How many versions a scan has to keep for this request; one more than the limit tells whether there is more.
pub(crate) fn keep(request: &RangeRequest) -> usize {
    if request.count_only {
        0
    } else if request.limit == 0 || request.sort_order != SortOrder::None || has_filter(request) {
        usize::MAX
    } else {
        request.limit.saturating_add(1)
    }
}

fn has_filter(request: &RangeRequest) -> bool {
    request.min_mod_revision != 0 || request.max_mod_revision != 0 || request.min_create_revision != 0 || request.max_create_revision != 0
}

/// `revision` is the store's when the request was served.
pub(crate) fn respond(request: &RangeRequest, revision: Revision, found: Found) -> RangeResponse {
    let Found { mut versions, count } = found;
    if has_filter(request) {
        versions.retain(|version| {
            within(version.mod_revision, request.min_mod_revision, request.max_mod_revision)
                && within(version.create_revision, request.min_create_revision, request.max_create_revision)
        });
    }
    sort(request, &mut versions);
    let more = request.limit > 0 && versions.len() > request.limit;
    if more {
        versions.truncate(request.limit);
    }
    let kvs = versions.iter().map(|version| to_kv(version, request.keys_only)).collect();
    RangeResponse { revision, kvs, more, count }
}

fn to_kv(version: &Version, keys_only: bool) -> KeyValue {
    if keys_only { KeyValue { value: Bytes::new(), ..version.to_kv() } } else { version.to_kv() }
}

fn within(revision: Revision, min: Revision, max: Revision) -> bool {
    (min == 0 || revision >= min) && (max == 0 || revision <= max)
}

fn sort(request: &RangeRequest, versions: &mut [Arc<Version>]) {
    let order = match (request.sort_target, request.sort_order) {
        // A scan already gives the order of keys; any other target without an order means ascending.
        (SortTarget::Key, SortOrder::None | SortOrder::Ascend) => return,
        (_, SortOrder::None) => SortOrder::Ascend,
        (_, order) => order,
    };
    // Equal ones keep the order of keys both ways, as Go's sort of a short list does.
    versions.sort_by(|a, b| {
        let ascending = match request.sort_target {
            SortTarget::Key => a.key.cmp(&b.key),
            SortTarget::Version => a.version.cmp(&b.version),
            SortTarget::CreateRevision => a.create_revision.cmp(&b.create_revision),
            SortTarget::ModRevision => a.mod_revision.cmp(&b.mod_revision),
            SortTarget::Value => a.value.cmp(&b.value),
        };
        if order == SortOrder::Descend { ascending.reverse() } else { ascending }
    });
}
