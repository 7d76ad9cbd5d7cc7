//! Snapshot files: any bytes are read to the end or refused, never a panic and never an endless walk.
#![no_main]

use bbolt::{Bucket, Database, Source, Value};
use libfuzzer_sys::fuzz_target;

const META_START: usize = 16;
const META_SUM: usize = META_START + 56;

fuzz_target!(|data: &[u8]| {
    let mut file = data.to_vec();
    // The checksum of the first meta page is made right, else hardly an input would get beyond it.
    if file.len() >= META_SUM + 8 {
        file[META_START..META_START + 4].copy_from_slice(&0xED0C_DAEDu32.to_le_bytes());
        file[META_START + 4..META_START + 8].copy_from_slice(&2u32.to_le_bytes());
        let sum = file[META_START..META_SUM]
            .iter()
            .fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3));
        file[META_SUM..META_SUM + 8].copy_from_slice(&sum.to_le_bytes());
    }
    let Ok(database) = Database::new(file) else { return };
    let _ = database.check();
    walk(&database.root(), 0);
});

fn walk<S: Source>(bucket: &Bucket<'_, S>, depth: usize) {
    let _ = bucket.last_key();
    for entry in bucket.entries().map_while(Result::ok) {
        if let Value::Bucket(inner) = &entry.value
            && depth < 4
        {
            walk(inner, depth + 1);
        }
        if entry.key.len() % 2 == 0 {
            let _ = bucket.get(&entry.key);
        }
    }
}
