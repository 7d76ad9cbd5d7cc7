//! Ranges of keys as the command line names them: one key, a prefix, all from a key on, or an explicit end. Does not ask the server.

/// From a key to the end of all keys, as `range_end`.
pub const OPEN_END: &[u8] = b"\0";

/// The end of the range of keys that start with `prefix`; the open end where there is no greater prefix.
pub fn prefix_end(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.last_mut() {
        if *last < 0xff {
            *last += 1;
            return end;
        }
        end.pop();
    }
    OPEN_END.to_vec()
}

/// The first key and the end for a key with `--prefix` or `--from-key`; an empty key then means all keys.
pub fn range(key: &[u8], prefix: bool, from_key: bool) -> (Vec<u8>, Vec<u8>) {
    match (key.is_empty(), prefix, from_key) {
        (true, true, _) | (true, _, true) => (OPEN_END.to_vec(), OPEN_END.to_vec()),
        (false, true, _) => (key.to_vec(), prefix_end(key)),
        (false, _, true) => (key.to_vec(), OPEN_END.to_vec()),
        _ => (key.to_vec(), Vec::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges() {
        let check = |key: &[u8], prefix, from_key, expected: (&[u8], &[u8])| {
            assert_eq!(range(key, prefix, from_key), (expected.0.to_vec(), expected.1.to_vec()));
        };
        check(b"a", false, false, (b"a", b""));
        check(b"a", true, false, (b"a", b"b"));
        check(b"a\xff", true, false, (b"a\xff", b"b"));
        check(b"\xff\xff", true, false, (b"\xff\xff", b"\0"));
        check(b"a", false, true, (b"a", b"\0"));
        check(b"", true, false, (b"\0", b"\0"));
        check(b"", false, true, (b"\0", b"\0"));
    }
}
