//! What names, labels and ports may look like (apimachinery/pkg/util/validation). Each rule answers with the complaints, empty when
//! the text is well formed. Must not know where the text stood.

const LABEL: &str = "[a-z0-9]([-a-z0-9]*[a-z0-9])?";
const SUBDOMAIN: &str = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*";
const QUALIFIED: &str = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]";

/// How upstream words a text that does not match an expression.
pub fn regex_error(message: &str, expression: &str, examples: &[&str]) -> String {
    if examples.is_empty() {
        return format!("{message} (regex used for validation is '{expression}')");
    }
    let examples: Vec<String> = examples.iter().map(|example| format!("'{example}', ")).collect();
    format!("{message} (e.g. {}regex used for validation is '{expression}')", examples.join(" or "))
}

pub fn max_length_error(max: usize) -> String {
    format!("must be no more than {max} characters")
}

fn max_bytes_error(max: usize) -> String {
    format!("must be no more than {max} bytes")
}

fn is_lower_alphanumeric(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit()
}

fn matches_label(text: &str) -> bool {
    let bytes = text.as_bytes();
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else { return false };
    is_lower_alphanumeric(*first) && is_lower_alphanumeric(*last) && bytes.iter().all(|b| is_lower_alphanumeric(*b) || *b == b'-')
}

fn matches_qualified(text: &str) -> bool {
    let bytes = text.as_bytes();
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else { return false };
    first.is_ascii_alphanumeric()
        && last.is_ascii_alphanumeric()
        && bytes.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

fn matches_subdomain(text: &str) -> bool {
    text.split('.').all(matches_label)
}

/// RFC 1123 label, 63 characters.
pub fn dns_label(text: &str) -> Vec<String> {
    let mut problems = Vec::new();
    if text.len() > 63 {
        problems.push(max_length_error(63));
    }
    if !matches_label(text) {
        if matches_subdomain(text) {
            problems.push("must not contain dots".into());
        } else {
            problems.push(regex_error(
                "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character",
                LABEL,
                &["my-name", "123-abc"],
            ));
        }
    }
    problems
}

/// RFC 1123 subdomain, 253 characters.
pub fn dns_subdomain(text: &str) -> Vec<String> {
    let mut problems = Vec::new();
    if text.len() > 253 {
        problems.push(max_length_error(253));
    }
    if !matches_subdomain(text) {
        problems.push(regex_error(
            "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character",
            SUBDOMAIN,
            &["example.com"],
        ));
    }
    problems
}

/// A subdomain whose first label is `*`.
pub fn wildcard_dns_subdomain(text: &str) -> Vec<String> {
    let mut problems = Vec::new();
    if text.len() > 253 {
        problems.push(max_length_error(253));
    }
    if !text.strip_prefix("*.").is_some_and(matches_subdomain) {
        problems.push(regex_error(
            "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must consist of lower case alphanumeric characters, '-' or '.' and end with an alphanumeric character",
            &format!(r"\*\.{SUBDOMAIN}"),
            &["*.example.com"],
        ));
    }
    problems
}

/// RFC 1035 label, 63 characters.
pub fn dns_1035_label(text: &str) -> Vec<String> {
    let mut problems = Vec::new();
    if text.len() > 63 {
        problems.push(max_length_error(63));
    }
    if !(matches_label(text) && text.starts_with(|c: char| c.is_ascii_lowercase())) {
        problems.push(regex_error(
            "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character",
            "[a-z]([-a-z0-9]*[a-z0-9])?",
            &["my-name", "abc-123"],
        ));
    }
    problems
}

/// A name that is one segment of a URL path.
pub fn path_segment(text: &str) -> Vec<String> {
    match text {
        "." | ".." => return vec![format!("may not be '{text}'")],
        _ => {}
    }
    ["/", "%"].iter().filter(|part| text.contains(**part)).map(|part| format!("may not contain '{part}'")).collect()
}

/// `name` or `example.com/name`: label keys, annotation keys, finalizers, resource names.
pub fn qualified_name(text: &str) -> Vec<String> {
    const MESSAGE: &str = "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character";
    const EXAMPLES: [&str; 3] = ["MyName", "my.name", "123-abc"];
    let mut problems = Vec::new();
    let parts: Vec<&str> = text.split('/').collect();
    let name = match parts[..] {
        [name] => name,
        [prefix, name] => {
            if prefix.is_empty() {
                problems.push("prefix part must be non-empty".into());
            } else {
                problems.extend(dns_subdomain(prefix).into_iter().map(|problem| format!("prefix part {problem}")));
            }
            name
        }
        _ => {
            let rule = regex_error(MESSAGE, QUALIFIED, &EXAMPLES);
            return vec![format!("a qualified name {rule} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')")];
        }
    };
    if name.is_empty() {
        problems.push("name part must be non-empty".into());
    } else if name.len() > 63 {
        problems.push(format!("name part {}", max_bytes_error(63)));
    }
    if !matches_qualified(name) {
        problems.push(format!("name part {}", regex_error(MESSAGE, QUALIFIED, &EXAMPLES)));
    }
    problems
}

pub fn label_value(text: &str) -> Vec<String> {
    let mut problems = Vec::new();
    if text.len() > 63 {
        problems.push(max_bytes_error(63));
    }
    if !(text.is_empty() || matches_qualified(text)) {
        problems.push(regex_error(
            "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character",
            "(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?",
            &["MyValue", "my_value", "12345"],
        ));
    }
    problems
}

/// A key of a ConfigMap or Secret.
pub fn config_map_key(text: &str) -> Vec<String> {
    let mut problems = Vec::new();
    if text.len() > 253 {
        problems.push(max_length_error(253));
    }
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.')) {
        problems.push(regex_error(
            "a valid config key must consist of alphanumeric characters, '-', '_' or '.'",
            "[-._a-zA-Z0-9]+",
            &["key.name", "KEY_NAME", "key-name"],
        ));
    }
    match text {
        "." => problems.push("must not be '.'".into()),
        ".." => problems.push("must not be '..'".into()),
        _ if text.starts_with("..") => problems.push("must not start with '..'".into()),
        _ => {}
    }
    problems
}

/// Printable ASCII without `=`.
pub fn env_var_name(text: &str) -> Vec<String> {
    let mut problems = Vec::new();
    if text.is_empty() {
        problems.push("environment variable name must be non-empty".into());
    }
    if !text.bytes().all(|b| (b' '..=b'~').contains(&b) && b != b'=') {
        problems.push("a valid environment variable name must consist only of printable ASCII characters other than '='".into());
    }
    problems
}

/// IANA service name: 15 characters.
pub fn port_name(text: &str) -> Vec<String> {
    let mut problems = Vec::new();
    let mut complain = |wrong: bool, text: String| {
        if wrong {
            problems.push(text);
        }
    };
    complain(text.len() > 15, max_length_error(15));
    let plain = !text.is_empty() && text.bytes().all(|b| is_lower_alphanumeric(b) || b == b'-');
    complain(!plain, "must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)".into());
    complain(!text.bytes().any(|b| b.is_ascii_lowercase()), "must contain at least one letter (a-z)".into());
    complain(text.contains("--"), "must not contain consecutive hyphens".into());
    complain(text.starts_with('-') || text.ends_with('-'), "must not begin or end with a hyphen".into());
    problems
}

pub fn port_number(port: i32) -> Vec<String> {
    in_range(i64::from(port), 1, 65_535)
}

pub fn in_range(value: i64, min: i64, max: i64) -> Vec<String> {
    if (min..=max).contains(&value) { Vec::new() } else { vec![format!("must be between {min} and {max}, inclusive")] }
}

/// A user or group number: an unsigned 32-bit number.
pub fn id_number(id: i64) -> Vec<String> {
    in_range(id, 0, i64::from(u32::MAX))
}

pub fn percent(text: &str) -> Vec<String> {
    let digits = text.strip_suffix('%').unwrap_or_default();
    if !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) {
        return Vec::new();
    }
    vec![regex_error("a valid percent string must be a numeric string followed by an ending '%'", "[0-9]+%", &["1%", "93%"])]
}

pub fn http_header_name(text: &str) -> Vec<String> {
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
        return Vec::new();
    }
    vec![regex_error("a valid HTTP header must consist of alphanumeric characters or '-'", "[-A-Za-z0-9]+", &["X-Header-Name"])]
}

pub fn ip(text: &str) -> Vec<String> {
    if text.parse::<std::net::IpAddr>().is_ok() {
        return Vec::new();
    }
    vec!["must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)".into()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(rule: fn(&str) -> Vec<String>, good: &[&str], bad: &[&str]) {
        for text in good {
            assert_eq!(rule(text), Vec::<String>::new(), "{text:?}");
        }
        for text in bad {
            assert!(!rule(text).is_empty(), "{text:?}");
        }
    }

    #[test]
    fn shapes() {
        let long = "a".repeat(64);
        check(dns_label, &["a", "a-1", "0"], &["", "A", "-a", "a-", "a.b", "a_b", &long]);
        check(dns_subdomain, &["a", "a.b-c", &long], &["", "a..b", ".a", "a.", "A.b"]);
        check(dns_1035_label, &["a", "a-1"], &["", "1a", "A"]);
        check(qualified_name, &["a", "a/B_c", "example.com/x.y"], &["", "/a", "a/", "a/b/c", "A_/b", "-a", "a/-"]);
        check(label_value, &["", "A_b.c"], &["-a", "a b", &long]);
        check(config_map_key, &["a", ".a", "A_b-c.d"], &["", ".", "..", "..a", "a/b"]);
        check(port_name, &["http", "a1-b"], &["", "1", "a--b", "-a", "HTTP", "abcdefghijklmnop"]);
        check(env_var_name, &["A", "a b", "1"], &["", "a=b", "ä"]);
        check(path_segment, &["system:x", "a b"], &[".", "..", "a/b", "a%b"]);
        check(percent, &["1%", "100%"], &["1", "%", "-1%"]);
        check(wildcard_dns_subdomain, &["*.a.b"], &["*", "*a.b", "a.b", "*.*.b"]);
    }

    #[test]
    fn words_are_upstreams() {
        assert_eq!(
            dns_label("A"),
            ["a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an \
              alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')"]
        );
    }
}
