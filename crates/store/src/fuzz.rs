//! What fuzzers call, and quick runs of the same as tests: bytes from a disk or a peer give values or errors, never panics.

use std::sync::{Arc, OnceLock};

use tokio::sync::oneshot;

use crate::commit::Proposal;
use crate::disk::sim::SimFiles;
use crate::kv::*;
use crate::options::EngineOptions;
use crate::recovery::{Recovered, recover};
use crate::state::Command;
use crate::{codec, raft};

/// Bytes of an edit in `files`.
const EDIT_BYTES: usize = 6;

/// A command of the log: what can be read is written and read again the same.
pub fn command(data: &[u8]) {
    if let Ok(command) = codec::decode(data) {
        let bytes = codec::encode(&command);
        let again = codec::decode(&bytes).expect("what was written can be read");
        assert_eq!(format!("{again:?}"), format!("{command:?}"));
    }
}

/// A message of a peer.
pub fn message(data: &[u8]) {
    raft::read_message(data);
}

/// A store on a damaged disk: `data` says which bytes of its log and its checkpoint are others. It opens or it says what is wrong, and it never holds
/// what was not written.
pub fn files(data: &[u8]) {
    let (template, written) = template();
    let files = template.copy();
    let names = files.used();
    for edit in data.chunks_exact(EDIT_BYTES) {
        let name = &names[usize::from(edit[0]) % names.len()];
        let (at, value) = (usize::from(u16::from_le_bytes([edit[1], edit[2]])), edit[5]);
        files.edit(name, |bytes| {
            let at = at % bytes.len().max(1);
            match edit[3] % 4 {
                0 => bytes.truncate(at),
                1 => bytes[at..].iter_mut().take(512).for_each(|byte| *byte = 0),
                2 => bytes.iter_mut().skip(at).take(usize::from(edit[4])).for_each(|byte| *byte = byte.wrapping_add(value)),
                _ => bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte = value),
            }
        });
    }
    if let Ok(Recovered { shared, .. }) = start(&files) {
        assert!(shared.state.read().applied_index <= *written, "more than was written");
    }
}

fn start(files: &SimFiles) -> Result<Recovered, KvError> {
    let options = EngineOptions { wal_segment_bytes: 4096, checkpoint_wal_bytes: 4096, value_cache_bytes: 500, ..EngineOptions::default() };
    recover(Arc::new(files.clone()), Arc::new(files.clone()), &options)
}

/// A small store with a checkpoint and a log after it; how many commands it has.
fn template() -> &'static (SimFiles, u64) {
    static TEMPLATE: OnceLock<(SimFiles, u64)> = OnceLock::new();
    TEMPLATE.get_or_init(|| {
        let files = SimFiles::new();
        let Recovered { mut writer, mut keeper, shared } = start(&files).expect("an empty disk becomes a store");
        for round in 0..40u8 {
            let put = Op::Put(PutRequest::new(vec![b'k', round % 7], vec![round; usize::from(round) * 20]));
            let command = match round {
                9 => Command::LeaseGrant { id: 5, ttl_ms: 60_000 },
                20 => Command::Compact(10),
                _ => Command::Txn(Txn { success: vec![put], ..Txn::default() }),
            };
            let (reply, _) = oneshot::channel();
            writer.commit(vec![Proposal { encoded: codec::encode(&command), command, reply }]);
            if round == 25 {
                keeper.save().and_then(|()| keeper.sweep(&|_| ())).expect("a sound disk takes a checkpoint");
            }
        }
        let written = shared.state.read().applied_index;
        (files, written)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn commands(kind in prop::sample::select(vec![1u8, 2, 3, 4, 5, 0x20, 0x30, 0x31, 0x40, 0x41]), mut data in prop::collection::vec(0u8..20, 0..60)) {
            data.insert(0, kind);
            command(&data);
        }

        #[test]
        fn messages(mut data in prop::collection::vec(0u8..30, 0..60)) {
            data.insert(0, 1);
            message(&data);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn damaged_disks(data in prop::collection::vec(any::<u8>(), 0..40)) {
            files(&data);
        }
    }

    #[test]
    fn a_sound_disk_opens() {
        assert!(start(&template().0.copy()).is_ok());
    }
}
