//! Go's notations, which people see in upstream's output: quoted strings, durations, sizes, errors of parsed numbers. Knows nothing of etcd.

use std::time::Duration;

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

/// `time.Duration.String()`: `731.814µs`, `1.5s`, `1m0s`.
pub fn duration(time: Duration) -> String {
    let nanos = time.as_nanos();
    let shortest = |value: f64, unit: &str| format!("{value}{unit}");
    match nanos {
        0 => "0s".into(),
        1..1_000 => format!("{nanos}ns"),
        1_000..1_000_000 => shortest(fraction(nanos, 1_000), "µs"),
        1_000_000..1_000_000_000 => shortest(fraction(nanos, 1_000_000), "ms"),
        _ => {
            let (minutes, rest) = (nanos / 60_000_000_000, nanos % 60_000_000_000);
            let seconds = shortest(fraction(rest, 1_000_000_000), "s");
            match (minutes / 60, minutes % 60) {
                (0, 0) => seconds,
                (0, minutes) => format!("{minutes}m{seconds}"),
                (hours, minutes) => format!("{hours}h{minutes}m{seconds}"),
            }
        }
    }
}

#[allow(clippy::cast_precision_loss, reason = "the parts are below 60,000,000,000")]
fn fraction(nanos: u128, unit: u128) -> f64 {
    nanos as f64 / unit as f64
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

/// Go's `time.ParseDuration`, without signs.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("time: invalid duration {}", quote(text.as_bytes()));
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let mut rest = text;
    let mut seconds = 0.0;
    while !rest.is_empty() || text.is_empty() {
        let number = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(|| match rest.len() {
            0 => wrong(),
            _ => format!("time: missing unit in duration {}", quote(text.as_bytes())),
        })?;
        let value: f64 = rest[..number].parse().map_err(|_| wrong())?;
        rest = &rest[number..];
        let unit = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        let scale = match &rest[..unit] {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "us" | "µs" | "μs" => 1e-6,
            "ns" => 1e-9,
            other => return Err(format!("time: unknown unit {} in duration {}", quote(other.as_bytes()), quote(text.as_bytes()))),
        };
        seconds += value * scale;
        rest = &rest[unit..];
    }
    Duration::try_from_secs_f64(seconds).map_err(|_| wrong())
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
    fn durations() {
        let check = |nanos: u64, expected: &str| assert_eq!(duration(Duration::from_nanos(nanos)), expected);
        check(0, "0s");
        check(999, "999ns");
        check(731_814, "731.814µs");
        check(786_920, "786.92µs");
        check(1_100_000, "1.1ms");
        check(2_000_000_000, "2s");
        check(60_000_000_000, "1m0s");
        check(3_723_500_000_000, "1h2m3.5s");
        let check = |text: &str, expected: Result<u64, &str>| {
            assert_eq!(parse_duration(text), expected.map(Duration::from_millis).map_err(str::to_owned), "{text}");
        };
        check("1m30s", Ok(90_000));
        check("0.5s", Ok(500));
        check("0", Ok(0));
        check("x", Err("time: invalid duration \"x\""));
        check("", Err("time: invalid duration \"\""));
        check("5", Err("time: missing unit in duration \"5\""));
        check("5y", Err("time: unknown unit \"y\" in duration \"5y\""));
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
