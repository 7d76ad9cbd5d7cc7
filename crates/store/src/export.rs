//! Whole stores in and out: a consistent view of one as a stream of versions, and a data folder made from such a stream. Knows no file format but the
//! checkpoint's.

use std::path::Path;
use std::sync::Arc;

use crate::checkpoint::{Checkpoint, Meta, Saved, View};
use crate::disk::{Files, Folder, Lock};
use crate::index::Item;
use crate::kv::{KeyValue, KvError, Revision};
use crate::lease::LeaseRecord;
use crate::options::EngineOptions;
use crate::shelf::Shelf;
use crate::state::Extras;

/// Versions of one batch.
const BATCH_VERSIONS: usize = 1024;

/// Where a store stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotMeta {
    /// Identity of the data folder: its log and its checkpoint carry the same.
    pub store: u64,
    /// Place in the log of the last command that is in it.
    pub applied_index: u64,
    pub revision: Revision,
    pub compact_revision: Revision,
}

/// A store at one moment; later writes are not in it, and compactions take nothing from it.
pub struct SnapshotReader {
    meta: SnapshotMeta,
    leases: Vec<LeaseRecord>,
    extras: Extras,
    source: Source,
}

enum Source {
    Saved(View),
    /// A store without files: its values are in memory.
    Memory {
        items: Vec<Item>,
        next: usize,
    },
}

impl SnapshotReader {
    pub(crate) fn saved(view: View) -> Self {
        let Saved { meta, leases, extras } = view.saved.clone();
        Self { meta: meta.into(), leases, extras, source: Source::Saved(view) }
    }

    /// The items come in any order.
    pub(crate) fn memory(meta: SnapshotMeta, leases: Vec<LeaseRecord>, extras: Extras, mut items: Vec<Item>) -> Self {
        items.sort_unstable_by_key(|item| (item.version.mod_revision, item.version.sub));
        Self { meta, leases, extras, source: Source::Memory { items, next: 0 } }
    }

    pub fn meta(&self) -> &SnapshotMeta {
        &self.meta
    }

    pub fn leases(&self) -> &[LeaseRecord] {
        &self.leases
    }

    /// The sections beside keys and leases, by name.
    pub fn extras(&self) -> &Extras {
        &self.extras
    }

    /// The next versions with their places inside their revisions, in the order of (revision, place); version 0 marks a deletion. `None` at the end.
    /// Blocks on the disk.
    pub fn next_batch(&mut self) -> Result<Option<Vec<(KeyValue, u32)>>, KvError> {
        match &mut self.source {
            Source::Saved(view) => view.next_block(),
            Source::Memory { items, next } => {
                let batch: Vec<_> =
                    items[*next..].iter().take(BATCH_VERSIONS).map(|item| (item.clone().into_kv(), item.version.sub)).collect();
                *next += batch.len();
                Ok((!batch.is_empty()).then_some(batch))
            }
        }
    }

    /// Starts again with the first version. Whoever must know sizes before the content reads twice instead of keeping a copy.
    pub fn rewind(&mut self) {
        match &mut self.source {
            Source::Saved(view) => view.rewind(),
            Source::Memory { next, .. } => *next = 0,
        }
    }
}

/// What a store holds at one revision.
#[derive(Debug)]
pub struct History {
    pub revision: Revision,
    pub compact_revision: Revision,
    items: std::vec::IntoIter<Item>,
    shelf: Arc<Shelf>,
}

impl History {
    pub(crate) fn new(revision: Revision, compact_revision: Revision, mut items: Vec<Item>, shelf: Arc<Shelf>) -> Self {
        items.sort_unstable_by_key(|item| (item.version.mod_revision, item.version.sub));
        Self { revision, compact_revision, items: items.into_iter(), shelf }
    }

    /// Key, revision, and whether it is a deletion, of each version that is still to come.
    pub fn outlook(&self) -> impl Iterator<Item = (&[u8], Revision, bool)> {
        self.items.as_slice().iter().map(|Item { version, .. }| (&version.key[..], version.mod_revision, version.is_deletion()))
    }

    /// All that are still to come. Blocks on the disk.
    #[cfg(test)]
    pub fn read(mut self) -> Result<Vec<(KeyValue, u32)>, KvError> {
        let mut all = Vec::new();
        while let Some(mut batch) = self.next_batch()? {
            all.append(&mut batch);
        }
        Ok(all)
    }

    /// The next versions, as those of `SnapshotReader`. Blocks on the disk.
    pub fn next_batch(&mut self) -> Result<Option<Vec<(KeyValue, u32)>>, KvError> {
        let mut batch: Vec<Item> = self.items.by_ref().take(BATCH_VERSIONS).collect();
        self.shelf.fill(&mut batch)?;
        let with_place = |item: Item| {
            let sub = item.version.sub;
            (item.into_kv(), sub)
        };
        Ok((!batch.is_empty()).then(|| batch.into_iter().map(with_place).collect()))
    }
}

/// Makes a data folder that holds what the arguments say; `versions` come in the order of (revision, place), as `SnapshotReader` gives them. The folder
/// must not hold a store. An `applied_index` other than 0 needs a log beside it that goes on from there.
pub fn import(
    dir: &Path,
    meta: &SnapshotMeta,
    leases: &[LeaseRecord],
    extras: &Extras,
    versions: impl IntoIterator<Item = Result<(KeyValue, u32), KvError>>,
) -> Result<(), KvError> {
    let cannot = |error: std::io::Error| KvError::Unavailable(format!("the data folder {} cannot be used: {error}", dir.display()));
    let files = Folder::open(dir).map_err(cannot)?;
    let _lock = Lock::take(dir)?;
    import_into(Arc::new(files), meta, leases, extras, versions)
}

/// `import` on any disk.
pub(crate) fn import_into(
    files: Arc<dyn Files>,
    meta: &SnapshotMeta,
    leases: &[LeaseRecord],
    extras: &Extras,
    versions: impl IntoIterator<Item = Result<(KeyValue, u32), KvError>>,
) -> Result<(), KvError> {
    let (mut checkpoint, loaded) = Checkpoint::open(files, EngineOptions::default().checkpoint_wal_bytes)?;
    if loaded.is_some() {
        return Err(KvError::Unavailable("the data folder holds a store already: use an empty folder".into()));
    }
    let SnapshotMeta { store, applied_index, revision, compact_revision } = *meta;
    let meta = Meta { store, applied_index, revision, compact_revision };
    checkpoint.import(Saved { meta, leases: leases.to_vec(), extras: extras.clone() }, versions)
}

impl From<Meta> for SnapshotMeta {
    fn from(Meta { store, applied_index, revision, compact_revision }: Meta) -> Self {
        Self { store, applied_index, revision, compact_revision }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Engine, EngineOptions, KeyRange, Kv, PutRequest, RangeRequest, Txn};

    async fn filled(engine: &Engine) {
        let lease = engine.lease_grant(7, std::time::Duration::from_secs(600)).await.unwrap();
        for n in 0..30 {
            let key = format!("k{}", n % 10);
            engine
                .put(PutRequest { lease: if n % 7 == 0 { lease.id } else { 0 }, ..PutRequest::new(key, vec![b'v'; n * 50]) })
                .await
                .unwrap();
        }
        engine.delete(KeyRange::one("k3")).await.unwrap();
        let puts = ["x", "y", "z"].map(|key| crate::Op::Put(PutRequest::new(key, key)));
        engine.txn(Txn { success: puts.into(), ..Txn::default() }).await.unwrap();
        engine.compact(12, true).await.unwrap();
    }

    fn all(reader: &mut SnapshotReader) -> Vec<(KeyValue, u32)> {
        std::iter::from_fn(|| reader.next_batch().unwrap()).flatten().collect()
    }

    /// What is read out of one store and put into another is the same store.
    #[tokio::test]
    async fn a_store_goes_through_a_stream() {
        let tasks = base::Tasks::new();
        let dir = tempfile::tempdir().unwrap();
        for engine in [
            Engine::in_memory(EngineOptions::default(), &tasks),
            Engine::open(&dir.path().join("from"), EngineOptions::default(), &tasks).unwrap(),
        ] {
            filled(&engine).await;
            let mut reader = engine.snapshot().await.unwrap();
            engine.delete(KeyRange::prefix("k")).await.unwrap();
            engine.compact(engine.revision(), true).await.unwrap();
            let versions = all(&mut reader);
            assert!(versions.is_sorted_by_key(|(kv, sub)| (kv.mod_revision, *sub)));
            reader.rewind();
            assert_eq!(all(&mut reader), versions);
            let to = tempfile::tempdir().unwrap();
            let meta = SnapshotMeta { applied_index: 0, ..*reader.meta() };
            import(to.path(), &meta, reader.leases(), reader.extras(), versions.iter().cloned().map(Ok)).unwrap();
            assert!(import(to.path(), &meta, &[], &Extras::new(), []).is_err(), "a store is not overwritten");
            let copy = Engine::open(to.path(), EngineOptions::default(), &tasks).unwrap();
            assert_eq!(copy.revision(), meta.revision);
            assert_eq!(copy.status().await.unwrap().compact_revision, 12);
            let everything = copy.range(RangeRequest::new(KeyRange::between("\0", "\0"))).await.unwrap();
            assert_eq!(everything.kvs.len(), 12);
            assert_eq!(copy.lease_status(7).await.unwrap().keys.len(), 2);
            let mut again = copy.snapshot().await.unwrap();
            assert_eq!(all(&mut again), versions);
        }
    }
}
