//! Go's notations, which people see in upstream's output: quoted strings, durations, sizes, errors of parsed numbers. Knows nothing of etcd.

/// `%q` of a string of any bytes (strconv.Quote).
pub fn quote(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len() + 2);
    out.push('"');
    for chunk in bytes.utf8_chunks() {
        chunk.valid().chars().for_each(|c| quote_char(c, &mut out));
        chunk.invalid().iter().for_each(|byte| out.push_str(&format!("\\x{byte:02x}")));
    }
    out.push('"');
    out
}

fn quote_char(c: char, out: &mut String) {
    match c {
        '"' => out.push_str("\\\""),
        '\\' => out.push_str("\\\\"),
        '\u{7}' => out.push_str("\\a"),
        '\u{8}' => out.push_str("\\b"),
        '\u{c}' => out.push_str("\\f"),
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        '\u{b}' => out.push_str("\\v"),
        '\0'..='\u{1f}' | '\u{7f}' => out.push_str(&format!("\\x{:02x}", u32::from(c))),
        c if is_printable(c) => out.push(c),
        c if u32::from(c) < 0x10000 => out.push_str(&format!("\\u{:04x}", u32::from(c))),
        c => out.push_str(&format!("\\U{:08x}", u32::from(c))),
    }
}

/// The standard library knows what can be shown only through its own escapes; behind another character it leaves combining marks alone, as Go does.
fn is_printable(c: char) -> bool {
    c == '\'' || !format!("a{c}").as_str().escape_debug().any(|shown| shown == '\\')
}

/// Undoes `quote`: what stands between the quotes, or `None` where it is not well formed. Takes Go's backquoted form too.
pub fn unquote(text: &str) -> Option<Vec<u8>> {
    let (value, rest) = unquote_prefix(text)?;
    rest.is_empty().then_some(value)
}

/// A quoted string at the start, and what follows it.
pub fn unquote_prefix(text: &str) -> Option<(Vec<u8>, &str)> {
    if let Some(raw) = text.strip_prefix('`') {
        let (value, rest) = raw.split_once('`')?;
        return Some((value.as_bytes().to_vec(), rest));
    }
    let mut rest = text.strip_prefix('"')?;
    let mut out = Vec::new();
    loop {
        let c = rest.chars().next()?;
        rest = &rest[c.len_utf8()..];
        match c {
            '"' => return Some((out, rest)),
            '\n' => return None,
            '\\' => rest = unescape(rest, &mut out)?,
            c => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
}

/// One escape behind its backslash.
fn unescape<'a>(rest: &'a str, out: &mut Vec<u8>) -> Option<&'a str> {
    let c = rest.chars().next()?;
    let after = &rest[c.len_utf8()..];
    let digits = |count: usize, radix: u32, text: &'a str| -> Option<(u32, &'a str)> {
        let number = text.get(..count)?;
        number.chars().all(|digit| digit.is_digit(radix)).then_some(())?;
        Some((u32::from_str_radix(number, radix).ok()?, &text[count..]))
    };
    let simple = match c {
        'a' => 7,
        'b' => 8,
        'f' => 12,
        'n' => b'\n',
        'r' => b'\r',
        't' => b'\t',
        'v' => 11,
        '\\' => b'\\',
        '"' => b'"',
        'x' => {
            let (value, rest) = digits(2, 16, after)?;
            out.push(u8::try_from(value).ok()?);
            return Some(rest);
        }
        'u' | 'U' => {
            let (value, rest) = digits(if c == 'u' { 4 } else { 8 }, 16, after)?;
            out.extend_from_slice(char::from_u32(value)?.encode_utf8(&mut [0; 4]).as_bytes());
            return Some(rest);
        }
        '0'..='7' => {
            let (value, rest) = digits(3, 8, rest)?;
            out.push(u8::try_from(value).ok()?);
            return Some(rest);
        }
        _ => return None,
    };
    out.push(simple);
    Some(after)
}

/// go-humanize's `Bytes`: powers of 1000, one digit after the point below ten.
#[allow(clippy::cast_precision_loss, reason = "two digits are shown")]
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 7] = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];
    if count < 10 {
        return format!("{count} B");
    }
    let mut power = 0;
    let mut scale = 1u64;
    while power + 1 < UNITS.len() && count / scale >= 1000 {
        power += 1;
        scale *= 1000;
    }
    let value = (count as f64 / scale as f64 * 10.0 + 0.5).floor() / 10.0;
    if value < 10.0 { format!("{value:.1} {}", UNITS[power]) } else { format!("{value:.0} {}", UNITS[power]) }
}

/// Which end of the error that `strconv.ParseInt` and `ParseUint` give.
fn number_error(function: &str, text: &str, kind: &std::num::IntErrorKind) -> String {
    use std::num::IntErrorKind::{NegOverflow, PosOverflow};
    let reason = if matches!(kind, PosOverflow | NegOverflow) { "value out of range" } else { "invalid syntax" };
    format!("strconv.{function}: parsing {}: {reason}", quote(text.as_bytes()))
}

pub fn parse_int(text: &str, radix: u32) -> Result<i64, String> {
    i64::from_str_radix(text, radix).map_err(|error| number_error("ParseInt", text, error.kind()))
}

pub fn parse_uint(text: &str, radix: u32) -> Result<u64, String> {
    let parsed = if text.starts_with('+') { "".parse() } else { u64::from_str_radix(text, radix) };
    parsed.map_err(|error: std::num::ParseIntError| number_error("ParseUint", text, error.kind()))
}

pub fn parse_bool(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(format!("strconv.ParseBool: parsing {}: invalid syntax", quote(text.as_bytes()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes() {
        let check = |bytes: &[u8], expected: &str| {
            assert_eq!(quote(bytes), expected);
            assert_eq!(unquote(expected).as_deref(), Some(bytes), "{expected}");
        };
        check(b"a", r#""a""#);
        check(b"x<&>\"\\'", r#""x<&>\"\\'""#);
        check("é日\u{301}".as_bytes(), "\"é日\u{301}\"");
        check(b"\x00\x07\x1f\x7f\n\t", r#""\x00\a\x1f\x7f\n\t""#);
        check(b"\xff\xc3", r#""\xff\xc3""#);
        check("\u{a0}\u{200b}\u{e0001}".as_bytes(), r#""\u00a0\u200b\U000e0001""#);
        assert_eq!(unquote(r#""\101\x41\u0041""#).as_deref(), Some(&b"AAA"[..]));
        assert_eq!(unquote("`a\\b`").as_deref(), Some(&b"a\\b"[..]));
        for wrong in ["a", "\"a", "\"\\q\"", "\"a\"b", "\"\\x4\"", "\"\\u00e\"", ""] {
            assert_eq!(unquote(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn sizes() {
        let check = |count, expected: &str| assert_eq!(bytes(count), expected);
        check(0, "0 B");
        check(9, "9 B");
        check(82, "82 B");
        check(999, "999 B");
        check(1_000, "1.0 kB");
        check(20_480, "20 kB");
        check(24_576, "25 kB");
        check(9_949_000, "9.9 MB");
        check(123_456_789, "124 MB");
        check(u64::MAX, "18 EB");
    }

    #[test]
    fn numbers() {
        assert_eq!(parse_int("-5", 10), Ok(-5));
        assert_eq!(parse_int("x", 10).unwrap_err(), "strconv.ParseInt: parsing \"x\": invalid syntax");
        assert_eq!(parse_int("8000000000000000", 16).unwrap_err(), "strconv.ParseInt: parsing \"8000000000000000\": value out of range");
        assert_eq!(parse_uint("8000000000000000", 16), Ok(1 << 63));
        assert_eq!(parse_uint("-1", 16).unwrap_err(), "strconv.ParseUint: parsing \"-1\": invalid syntax");
        assert_eq!(parse_bool("T"), Ok(true));
        assert!(parse_bool("yes").is_err());
    }
}
