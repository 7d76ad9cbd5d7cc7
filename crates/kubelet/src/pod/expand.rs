//! `$(VAR)` in commands, arguments, environment values and sub-paths. Pure (third_party/forked/golang/expansion).

/// Replaces each `$(NAME)` by what `lookup` gives; `$$` is one dollar, an unknown or unclosed reference stays as written.
pub fn expand<'a>(text: &str, lookup: impl Fn(&str) -> Option<&'a str>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        if let Some(tail) = after.strip_prefix('$') {
            out.push('$');
            rest = tail;
        } else if let Some((name, tail)) = after.strip_prefix('(').and_then(|inner| inner.split_once(')')) {
            match lookup(name) {
                Some(value) => out.push_str(value),
                None => {
                    out.push_str("$(");
                    out.push_str(name);
                    out.push(')');
                }
            }
            rest = tail;
        } else {
            out.push('$');
            rest = after;
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expansions() {
        let lookup = |name: &str| match name {
            "A" => Some("1"),
            "EMPTY" => Some(""),
            _ => None,
        };
        let check = |text: &str, expected: &str| assert_eq!(expand(text, lookup), expected, "{text}");
        check("$(A)", "1");
        check("x$(A)y$(A)", "x1y1");
        check("$$(A)", "$(A)");
        check("$$$(A)", "$1");
        check("$(B)", "$(B)");
        check("$(A", "$(A");
        check("$A", "$A");
        check("[$(EMPTY)]", "[]");
        check("$", "$");
        check("é$(A)ü", "é1ü");
    }
}
