//! The log: what comes back after cuts, crashes and damage.

use proptest::prelude::*;

use super::*;
use crate::disk::sim::SimFiles;

const SEGMENT: u64 = 2048;

fn open(files: &SimFiles, applied: u64) -> Result<(Wal, Vec<Vec<u8>>), KvError> {
    let mut records = Vec::new();
    let wal = Wal::open(Arc::new(files.clone()), SEGMENT, None, applied, |index, record| {
        assert_eq!(index, applied + 1 + records.len() as u64);
        records.push(record.to_vec());
        Ok(())
    })?;
    Ok((wal, records))
}

fn record(n: usize) -> Vec<u8> {
    vec![n as u8; n % 50]
}

/// A log of `batches` appends of 1 to 3 records, and all the records.
fn written(batches: usize) -> (SimFiles, Vec<Vec<u8>>) {
    let files = SimFiles::new();
    let (mut wal, _) = open(&files, 0).unwrap();
    let mut all = Vec::new();
    for batch in 0..batches {
        let records: Vec<_> = (0..1 + batch % 3).map(|n| record(batch * 7 + n)).collect();
        wal.append(&records).unwrap();
        all.extend(records);
    }
    (files, all)
}

fn segments(files: &SimFiles) -> Vec<String> {
    files.list().unwrap().into_iter().filter(|name| name.ends_with(".wal")).collect()
}

#[test]
fn everything_comes_back() {
    let (files, all) = written(200);
    assert!(segments(&files).len() > 3);
    let (mut wal, records) = open(&files, 0).unwrap();
    assert_eq!(records, all);
    wal.append(&[b"more"]).unwrap();
    let (_, records) = open(&files, all.len() as u64 - 5).unwrap();
    assert_eq!(records.len(), 6);
    assert_eq!(records[5], b"more");
}

#[test]
fn a_large_record_gets_its_own_segment() {
    let (files, mut all) = written(3);
    let (mut wal, _) = open(&files, 0).unwrap();
    for size in [10_000, 10, 5000] {
        all.push(vec![7; size]);
        wal.append(&all[all.len() - 1..]).unwrap();
    }
    assert_eq!(open(&files, 0).unwrap().1, all);
}

#[test]
fn checkpointed_segments_go() {
    let (files, all) = written(200);
    let (wal, _) = open(&files, 0).unwrap();
    let applied = all.len() as u64 / 2;
    wal.segments().remove_up_to(applied).unwrap();
    assert_eq!(open(&files, applied).unwrap().1, all[applied as usize..]);
    let error = open(&files, 0).err().unwrap();
    assert!(error.to_string().contains("files are missing"), "{error}");
}

/// Cuts the last append at every byte: what was before it always comes back, and the log goes on.
#[test]
fn a_torn_tail_is_dropped() {
    let (files, mut all) = written(5);
    let (mut wal, _) = open(&files, 0).unwrap();
    let start = wal.offset as usize;
    let last = [record(40), record(41), record(42)];
    wal.append(&last).unwrap();
    let end = wal.offset as usize;
    let name = segments(&files)[0].clone();
    let kept = all.len();
    all.extend(last);
    for cut in start..end {
        let files = files.copy();
        files.edit(&name, |data| data[cut..].fill(0));
        let (mut wal, records) = open(&files, 0).unwrap();
        // Cutting zeros changes nothing.
        assert!(records == all[..kept] || records == all, "cut at {cut}");
        wal.append(&[b"next"]).unwrap();
        let (_, after) = open(&files, 0).unwrap();
        assert_eq!((after.len(), &after[after.len() - 1][..]), (records.len() + 1, &b"next"[..]));
    }
    for page in 0..3 {
        let files = files.copy();
        files.edit(&name, |data| data[start + page * 40..start + page * 40 + 30].fill(0xee));
        assert_eq!(open(&files, 0).unwrap().1, all[..kept], "a lost page in the middle of the last append");
    }
}

/// Flips every bit before the last append: never a wrong record, never a silent loss.
#[test]
fn damage_in_the_middle_is_refused() {
    let (files, all) = written(6);
    let (wal, _) = open(&files, 0).unwrap();
    let mut last = Vec::new();
    frame::write(&mut last, 0, 0, &[record(35), record(36), record(37)]);
    let end = wal.offset as usize - last.len();
    let name = segments(&files)[0].clone();
    for at in 0..end {
        let files = files.copy();
        files.edit(&name, |data| data[at] ^= 1 << (at % 8));
        match open(&files, 0) {
            Ok((_, records)) => assert_eq!(records, all, "only padding may be damaged unseen, at {at}"),
            Err(error) => {
                let text = error.to_string();
                assert!(matches!(error, KvError::Corrupt(_)), "{text}");
                assert!(text.contains(&format!("sim/{name}")) && text.contains("offset"), "{text}");
            }
        }
    }
}

#[test]
fn damage_of_files_is_refused() {
    let check = |damage: fn(&SimFiles, &[String]), expected: &str| {
        let (files, _) = written(200);
        damage(&files, &segments(&files));
        let error = open(&files, 0).err().unwrap().to_string();
        assert!(error.contains(expected), "{error}");
    };
    check(|files, names| files.remove(&names[1]).unwrap(), "are not there");
    check(|files, names| files.remove(&names[0]).unwrap(), "files are missing");
    check(|files, names| files.edit(&names[1], |data| data[1000..].fill(0)), "are not there");
    check(|files, names| files.edit(&names[1], |data| data.truncate(30)), "shorter than its header");
    check(|files, names| files.edit(&names[1], |data| data[16] = 2), "a newer version wrote it");
    check(|files, names| files.rename(&names[1], "00000000000000000009.wal").unwrap(), "are not there");
    let (files, _) = written(3);
    files.edit(&segments(&files)[0], |data| data[16] = 2);
    assert!(open(&files, 0).err().unwrap().to_string().contains("its format is 2 and this program reads up to 1"));
    let other = Wal::open(Arc::new(written(3).0), SEGMENT, Some(1), 0, |_, _| Ok(()));
    assert!(other.err().unwrap().to_string().contains("another store"));
    let empty = Wal::open(Arc::new(SimFiles::new()), SEGMENT, Some(1), 9, |_, _| Ok(()));
    assert!(empty.err().unwrap().to_string().contains("has no files"));
    assert!(open(&written(3).0, 100).err().unwrap().to_string().contains("the log ends at record"));
}

#[test]
fn a_full_disk_is_not_the_end() {
    let files = SimFiles::new();
    let (mut wal, _) = open(&files, 0).unwrap();
    files.set_free(Some(0));
    let mut written = 0;
    while wal.append(&[vec![1; 100]]).is_ok() {
        written += 1;
    }
    assert!(written >= 10);
    assert_eq!(wal.append(&[vec![1; 100]]), Err(KvError::NoSpace));
    assert_eq!(wal.failed(), None);
    files.set_free(None);
    wal.append(&[vec![1; 100]]).unwrap();
    assert_eq!(open(&files, 0).unwrap().1.len(), written + 1);
}

#[test]
fn a_broken_disk_ends_writing() {
    let (files, all) = written(3);
    let (mut wal, _) = open(&files, 0).unwrap();
    files.set_broken(true);
    assert!(matches!(wal.append(&[b"lost"]), Err(KvError::Unavailable(_))));
    files.set_broken(false);
    assert!(matches!(wal.append(&[b"refused"]), Err(KvError::Unavailable(_))));
    assert!(wal.failed().is_some());
    // What was refused may be there or not; nothing before it is lost.
    assert_eq!(open(&files, 0).unwrap().1[..all.len()], all);
}

/// Random crashes: what was acknowledged comes back, in order, with at most the one unacknowledged append after it.
#[test]
fn crashes_lose_nothing_acknowledged() {
    for seed in 0..150u64 {
        let files = SimFiles::new();
        let mut acknowledged: Vec<Vec<u8>> = Vec::new();
        let mut pending: Vec<Vec<u8>> = Vec::new();
        for round in 0..4u64 {
            files.restart(seed * 100 + round);
            let (mut wal, records) = open(&files, 0).unwrap();
            assert_eq!(records[..acknowledged.len()], acknowledged, "seed {seed}");
            assert!(pending.starts_with(&records[acknowledged.len()..]) || records[acknowledged.len()..] == pending, "seed {seed}");
            acknowledged = records;
            files.power_off_after(1 + (seed * 31 + round * 17) % 120);
            for n in 0.. {
                pending = (0..1 + n % 4).map(|n| vec![(seed + round) as u8; 40 * n]).collect();
                if wal.append(&pending).is_err() {
                    break;
                }
                acknowledged.append(&mut pending);
            }
        }
    }
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_panic(data in proptest::collection::vec(any::<u8>(), 0..500), offset in 0usize..500, salt in any::<u64>()) {
        let _ = SegmentHeader::parse(&data);
        let _ = frame::parse(&data, offset, salt);
        let _ = frame::find_later(&data, offset, salt);
    }

    #[test]
    fn any_frame_header_is_read_without_panic(length in any::<u32>(), count in any::<u32>(), rest in proptest::collection::vec(any::<u8>(), 0..100)) {
        let mut data = 7u64.to_le_bytes().to_vec();
        data.extend(1u64.to_le_bytes());
        data.extend(length.to_le_bytes());
        data.extend(count.to_le_bytes());
        data.extend(rest);
        let _ = frame::parse(&data, 0, 7);
    }
}
