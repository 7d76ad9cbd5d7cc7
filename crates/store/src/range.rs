//! Turns the versions that a scan found into a range response: filters, order, limit, as in etcd (server/etcdserver/txn/range.go).

use bytes::Bytes;

use crate::index::{Found, Item, Keep};
use crate::kv::{KeyValue, KvError, RangeRequest, RangeResponse, Revision, SortOrder, SortTarget};
use crate::shelf::Shelf;

/// What a scan has to keep for this request; one more than the limit tells whether there is more.
pub(crate) fn keep(request: &RangeRequest) -> Keep {
    let items = if request.count_only {
        0
    } else if request.limit == 0 || request.sort_order != SortOrder::None || has_filter(request) {
        usize::MAX
    } else {
        request.limit.saturating_add(1)
    };
    Keep { items, values: !request.keys_only || by_value(request) }
}

fn by_value(request: &RangeRequest) -> bool {
    request.sort_target == SortTarget::Value
}

fn has_filter(request: &RangeRequest) -> bool {
    request.min_mod_revision != 0 || request.max_mod_revision != 0 || request.min_create_revision != 0 || request.max_create_revision != 0
}

/// `revision` is the store's when the request was served. Blocks on the disk where values are not in memory.
pub(crate) fn respond(request: &RangeRequest, revision: Revision, found: Found, shelf: &Shelf) -> Result<RangeResponse, KvError> {
    let Found { mut items, count } = found;
    if has_filter(request) {
        items.retain(|Item { version, .. }| {
            within(version.mod_revision, request.min_mod_revision, request.max_mod_revision)
                && within(version.create_revision, request.min_create_revision, request.max_create_revision)
        });
    }
    if by_value(request) {
        shelf.fill(&mut items)?;
    }
    sort(request, &mut items);
    let more = request.limit > 0 && items.len() > request.limit;
    if more {
        items.truncate(request.limit);
    }
    shelf.fill(&mut items)?;
    let kvs = items.into_iter().map(|item| to_kv(item, request.keys_only)).collect();
    Ok(RangeResponse { revision, kvs, more, count })
}

fn to_kv(item: Item, keys_only: bool) -> KeyValue {
    if keys_only { KeyValue { value: Bytes::new(), ..item.into_kv() } } else { item.into_kv() }
}

fn within(revision: Revision, min: Revision, max: Revision) -> bool {
    (min == 0 || revision >= min) && (max == 0 || revision <= max)
}

fn sort(request: &RangeRequest, items: &mut [Item]) {
    let order = match (request.sort_target, request.sort_order) {
        // A scan already gives the order of keys; any other target without an order means ascending.
        (SortTarget::Key, SortOrder::None | SortOrder::Ascend) => return,
        (_, SortOrder::None) => SortOrder::Ascend,
        (_, order) => order,
    };
    // Equal ones keep the order of keys both ways, as Go's sort of a short list does.
    items.sort_by(|left, right| {
        let (a, b) = (&left.version, &right.version);
        let ascending = match request.sort_target {
            SortTarget::Key => a.key.cmp(&b.key),
            SortTarget::Version => a.version.cmp(&b.version),
            SortTarget::CreateRevision => a.create_revision.cmp(&b.create_revision),
            SortTarget::ModRevision => a.mod_revision.cmp(&b.mod_revision),
            SortTarget::Value => left.value.cmp(&right.value),
        };
        if order == SortOrder::Descend { ascending.reverse() } else { ascending }
    });
}
