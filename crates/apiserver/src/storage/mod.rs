//! The store as upstream's API server lays it out: keys below `--etcd-prefix`, and objects as whoever wrote them encoded them. To the rest of this crate
//! every key is below `/registry/` and every object is JSON in the version of its row. Decides nothing about objects.

mod form;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use store::*;

use self::form::Form;
pub use self::form::MediaType;
use crate::cache::ROOT;
use crate::table::Table;

/// A store seen so. All else passes through.
pub struct Storage {
    kv: Arc<dyn Kv>,
    layout: Arc<Layout>,
}

struct Layout {
    /// What stands for `ROOT` in the store, with its last slash.
    root: Bytes,
    form: Form,
}

impl Storage {
    pub fn new(kv: Arc<dyn Kv>, prefix: &str, media_type: MediaType, table: Arc<Table>) -> Self {
        Self { kv, layout: Arc::new(Layout { root: root(prefix), form: Form { media_type, table } }) }
    }
}

/// Upstream joins the prefix to `/` and ends it with one (storage/etcd3/store.go).
fn root(prefix: &str) -> Bytes {
    let prefix = prefix.trim_matches('/');
    if prefix.is_empty() { Bytes::from_static(b"/") } else { format!("/{prefix}/").into() }
}

impl Layout {
    fn is_same(&self) -> bool {
        self.root == ROOT
    }

    fn key_out(&self, key: Bytes) -> Bytes {
        match key.strip_prefix(ROOT.as_bytes()) {
            Some(rest) if !self.is_same() => [&self.root[..], rest].concat().into(),
            _ => key,
        }
    }

    fn range_out(&self, range: KeyRange) -> KeyRange {
        let end = range.end.map(|end| if end == prefix_end(ROOT.as_bytes()) { prefix_end(&self.root) } else { self.key_out(end) });
        KeyRange { key: self.key_out(range.key), end }
    }

    fn op_out(&self, op: Op) -> Op {
        match op {
            Op::Range(request) => Op::Range(self.request_out(request)),
            Op::Put(request) => {
                let value = self.form.pack(&request.key, request.value);
                Op::Put(PutRequest { key: self.key_out(request.key), value, ..request })
            }
            Op::Delete(request) => Op::Delete(DeleteRequest { range: self.range_out(request.range), ..request }),
            Op::Txn(txn) => Op::Txn(self.txn_out(txn)),
        }
    }

    fn request_out(&self, request: RangeRequest) -> RangeRequest {
        RangeRequest { range: self.range_out(request.range), ..request }
    }

    fn txn_out(&self, txn: Txn) -> Txn {
        Txn {
            compare: txn.compare.into_iter().map(|compare| Compare { range: self.range_out(compare.range), ..compare }).collect(),
            success: txn.success.into_iter().map(|op| self.op_out(op)).collect(),
            failure: txn.failure.into_iter().map(|op| self.op_out(op)).collect(),
        }
    }

    fn kv_in(&self, mut kv: KeyValue) -> KeyValue {
        if !self.is_same()
            && let Some(rest) = kv.key.strip_prefix(&self.root[..])
        {
            kv.key = [ROOT.as_bytes(), rest].concat().into();
        }
        kv.value = self.form.unpack(&kv.key, kv.value);
        kv
    }

    fn found_in(&self, mut found: RangeResponse) -> RangeResponse {
        found.kvs = found.kvs.into_iter().map(|kv| self.kv_in(kv)).collect();
        found
    }

    fn response_in(&self, response: OpResponse) -> OpResponse {
        match response {
            OpResponse::Range(found) => OpResponse::Range(self.found_in(found)),
            OpResponse::Put(previous) => OpResponse::Put(previous.map(|kv| self.kv_in(kv))),
            OpResponse::Delete { deleted, prev_kvs } => {
                OpResponse::Delete { deleted, prev_kvs: prev_kvs.into_iter().map(|kv| self.kv_in(kv)).collect() }
            }
            OpResponse::Txn(response) => OpResponse::Txn(self.txn_in(response)),
        }
    }

    fn txn_in(&self, mut response: TxnResponse) -> TxnResponse {
        response.responses = response.responses.into_iter().map(|response| self.response_in(response)).collect();
        response
    }
}

#[async_trait]
impl Kv for Storage {
    async fn range(&self, request: RangeRequest) -> Result<RangeResponse, KvError> {
        Ok(self.layout.found_in(self.kv.range(self.layout.request_out(request)).await?))
    }

    async fn txn(&self, txn: Txn) -> Result<TxnResponse, KvError> {
        Ok(self.layout.txn_in(self.kv.txn(self.layout.txn_out(txn)).await?))
    }

    async fn compact(&self, revision: Revision, physical: bool) -> Result<(), KvError> {
        self.kv.compact(revision, physical).await
    }

    async fn watch(&self, request: WatchRequest) -> Result<Box<dyn Watch>, KvError> {
        let request = WatchRequest { range: self.layout.range_out(request.range), ..request };
        Ok(Box::new(StorageWatch { watch: self.kv.watch(request).await?, layout: self.layout.clone() }))
    }

    async fn lease_grant(&self, id: LeaseId, ttl: Duration) -> Result<LeaseStatus, KvError> {
        self.kv.lease_grant(id, ttl).await
    }

    async fn lease_revoke(&self, id: LeaseId) -> Result<(), KvError> {
        self.kv.lease_revoke(id).await
    }

    async fn lease_keep_alive(&self, id: LeaseId) -> Result<Duration, KvError> {
        self.kv.lease_keep_alive(id).await
    }

    async fn lease_status(&self, id: LeaseId) -> Result<LeaseStatus, KvError> {
        self.kv.lease_status(id).await
    }

    async fn leases(&self) -> Result<Vec<LeaseId>, KvError> {
        self.kv.leases().await
    }

    async fn status(&self) -> Result<StoreStatus, KvError> {
        self.kv.status().await
    }
}

struct StorageWatch {
    watch: Box<dyn Watch>,
    layout: Arc<Layout>,
}

#[async_trait]
impl Watch for StorageWatch {
    async fn next(&mut self) -> Result<WatchResponse, KvError> {
        let mut response = self.watch.next().await?;
        for event in &mut response.events {
            event.kv = self.layout.kv_in(std::mem::take(&mut event.kv));
            event.prev_kv = event.prev_kv.take().map(|kv| self.layout.kv_in(kv));
        }
        Ok(response)
    }

    async fn request_progress(&mut self) -> Result<(), KvError> {
        self.watch.request_progress().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn another_prefix_is_not_seen() {
        let engine: Arc<dyn Kv> = Arc::new(Engine::in_memory(EngineOptions::default(), &base::Tasks::new()));
        let table = Arc::new(Table::new(kinds::rows()));
        let storage = Storage::new(engine.clone(), "kubernetes.io", MediaType::Json, table);
        let mut watch = storage.watch(WatchRequest::new(KeyRange::prefix(ROOT), 1)).await.unwrap();
        let object = r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{}}"#;
        storage.put(PutRequest::new("/registry/configmaps/a/b", object)).await.unwrap();
        storage.put(PutRequest::new("compact_rev_key", "1")).await.unwrap();
        let keys = |found: RangeResponse| found.kvs.into_iter().map(|kv| kv.key).collect::<Vec<_>>();
        let all = RangeRequest::new(KeyRange::between("\0", "\0"));
        assert_eq!(keys(engine.range(all).await.unwrap()), ["/kubernetes.io/configmaps/a/b", "compact_rev_key"]);
        assert_eq!(keys(storage.range(RangeRequest::new(KeyRange::prefix(ROOT))).await.unwrap()), ["/registry/configmaps/a/b"]);
        assert_eq!(keys(storage.range(RangeRequest::new(KeyRange::prefix("/registry/configmaps/"))).await.unwrap()).len(), 1);
        assert_eq!(watch.next().await.unwrap().events[0].kv.key, "/registry/configmaps/a/b");
        let txn = Txn {
            compare: vec![Compare::mod_revision("/registry/configmaps/a/b", 2)],
            success: vec![Op::Delete(DeleteRequest { range: KeyRange::one("/registry/configmaps/a/b"), prev_kv: true })],
            failure: Vec::new(),
        };
        assert!(storage.txn(txn).await.unwrap().succeeded);
        assert_eq!(engine.range(RangeRequest::new(KeyRange::prefix("/kubernetes.io/"))).await.unwrap().count, 0);
    }

    #[test]
    fn roots() {
        let check = |prefix: &str, expected: &str| assert_eq!(root(prefix), expected, "{prefix}");
        check("/registry", "/registry/");
        check("registry/", "/registry/");
        check("/a/b", "/a/b/");
        check("", "/");
    }
}
