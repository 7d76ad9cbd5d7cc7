//! How `txn` and the interactive `watch` take lines apart: words, quotes, comparisons (etcdctl/ctlv3/command/util.go). Runs no command.

use etcd::pb::{self, compare};

use crate::exit::{self, Failure, Outcome};
use crate::go;
use crate::printer::messages::comparison;

/// The words of a line; `"..."` as in Go, `'...'` as it stands.
pub fn words(line: &str) -> Outcome<Vec<Vec<u8>>> {
    let mut words = Vec::new();
    let mut rest = line;
    while let Some(first) = rest.chars().next() {
        match first {
            c if c.is_whitespace() => rest = &rest[c.len_utf8()..],
            '"' => match closing_quote(rest) {
                Some(end) => {
                    let word = go::unquote(&rest[..end]).ok_or_else(|| Failure::new(exit::INVALID_INPUT, "invalid syntax"))?;
                    words.push(word);
                    rest = &rest[end..];
                }
                // A quote without an end belongs to no word.
                None => rest = &rest[1..],
            },
            '\'' => match rest[1..].find('\'') {
                Some(end) => {
                    words.push(rest.as_bytes()[1..=end].to_vec());
                    rest = &rest[end + 2..];
                }
                None => rest = &rest[1..],
            },
            _ => {
                let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
                words.push(rest.as_bytes()[..end].to_vec());
                rest = &rest[end..];
            }
        }
    }
    Ok(words)
}

/// Behind the quote that ends the one at the start.
fn closing_quote(text: &str) -> Option<usize> {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return Some(at + 1),
            _ => {}
        }
    }
    None
}

/// `mod("key") > "0"`.
pub fn compare(line: &str) -> Outcome<pb::Compare> {
    let bad = |text: String| Failure::new(exit::INVALID_INPUT, text);
    let (target, rest) = line.split_once('(').ok_or_else(|| bad(format!("malformed comparison: {line}")))?;
    let malformed =
        |key: &[u8], operator: &str| bad(format!("malformed comparison: {line}; got {target}({}) {operator} \"\"", go::quote(key)));
    let (key, rest) = go::unquote_prefix(rest).ok_or_else(|| malformed(b"", ""))?;
    let rest = rest.strip_prefix(')').ok_or_else(|| malformed(&key, ""))?.trim_start();
    let (operator, value) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    let (value, _) = go::unquote_prefix(value.trim_start()).ok_or_else(|| malformed(&key, operator))?;
    let result = comparison(operator).ok_or_else(|| bad(format!("unknown result op: {operator}")))?;
    let number = |radix: u32| {
        let parsed = go::parse_int(&String::from_utf8_lossy(&value), radix);
        parsed.map_err(|_| bad(format!("invalid txn compare request: {line}")))
    };
    use compare::{CompareTarget, TargetUnion};
    let (target, union) = match target {
        "ver" | "version" => (CompareTarget::Version, TargetUnion::Version(number(10)?)),
        "c" | "create" => (CompareTarget::Create, TargetUnion::CreateRevision(number(10)?)),
        "m" | "mod" => (CompareTarget::Mod, TargetUnion::ModRevision(number(10)?)),
        "val" | "value" => (CompareTarget::Value, TargetUnion::Value(value.into())),
        "lease" => (CompareTarget::Lease, TargetUnion::Lease(number(16)?)),
        other => return Err(bad(format!("malformed comparison: {line} (unknown target {other})"))),
    };
    Ok(pb::Compare { result: result.into(), target: target.into(), key: key.into(), target_union: Some(union), ..Default::default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_become_words() {
        let check = |line: &str, expected: &[&[u8]]| assert_eq!(words(line).unwrap(), expected, "{line}");
        check("put key1 \"overwrote-key1\"", &[b"put", b"key1", b"overwrote-key1"]);
        check("put key2 'some extra key'", &[b"put", b"key2", b"some extra key"]);
        check("  get\t--prefix  \"a\\x00\\\"b\" ", &[b"get", b"--prefix", b"a\0\"b"]);
        check("get a'b c'd", &[b"get", b"a'b", b"c'd"]);
        check("", &[]);
        check("''", &[b""]);
        assert!(words("\"\\q\"").is_err());
    }

    #[test]
    fn comparisons() {
        let good = compare("mod(\"key1\") > \"0\"").unwrap();
        assert_eq!((good.result(), good.target()), (compare::CompareResult::Greater, compare::CompareTarget::Mod));
        assert_eq!(good.target_union, Some(compare::TargetUnion::ModRevision(0)));
        let good = compare("value(\"a b\") != \"x\\ny\"").unwrap();
        assert_eq!((&good.key[..], good.target_union), (&b"a b"[..], Some(compare::TargetUnion::Value("x\ny".into()))));
        let good = compare("lease(\"a\") = \"1f\"").unwrap();
        assert_eq!(good.target_union, Some(compare::TargetUnion::Lease(31)));
        let check = |line: &str, expected: &str| {
            let failure = compare(line).unwrap_err();
            assert!(failure.code == exit::INVALID_INPUT && failure.text == expected, "{}", failure.text);
        };
        check("mod key > 0", "malformed comparison: mod key > 0");
        check("mod(key) > 0", "malformed comparison: mod(key) > 0; got mod(\"\")  \"\"");
        check("mod(\"key\") >", "malformed comparison: mod(\"key\") >; got mod(\"key\") > \"\"");
        check("odd(\"key\") > \"0\"", "malformed comparison: odd(\"key\") > \"0\" (unknown target odd)");
        check("mod(\"key\") >= \"0\"", "unknown result op: >=");
        check("mod(\"key\") > \"x\"", "invalid txn compare request: mod(\"key\") > \"x\"");
    }
}
