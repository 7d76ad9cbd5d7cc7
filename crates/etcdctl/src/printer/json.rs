//! JSON as Go's encoder writes it for etcd's messages: fields in the order of the message, empty ones left out, bytes in base64. Does not parse.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// An object that is being written. The methods leave out what is empty, unless they say otherwise.
pub struct Object {
    text: String,
}

impl Object {
    pub fn new() -> Self {
        Self { text: "{".into() }
    }

    /// Any JSON value, always.
    pub fn raw(mut self, name: &str, value: &str) -> Self {
        if self.text.len() > 1 {
            self.text.push(',');
        }
        self.text.push_str(&string(name));
        self.text.push(':');
        self.text.push_str(value);
        self
    }

    pub fn number(self, name: &str, value: impl Into<i128>) -> Self {
        let value = value.into();
        if value == 0 { self } else { self.raw(name, &value.to_string()) }
    }

    pub fn flag(self, name: &str, value: bool) -> Self {
        if value { self.raw(name, "true") } else { self }
    }

    pub fn text(self, name: &str, value: &str) -> Self {
        if value.is_empty() { self } else { self.raw(name, &string(value)) }
    }

    pub fn bytes(self, name: &str, value: &[u8]) -> Self {
        if value.is_empty() { self } else { self.raw(name, &base64(value)) }
    }

    pub fn texts(self, name: &str, values: &[String]) -> Self {
        let values: Vec<String> = values.iter().map(|value| string(value)).collect();
        self.list(name, &values)
    }

    pub fn list(self, name: &str, values: &[String]) -> Self {
        if values.is_empty() { self } else { self.raw(name, &array(values)) }
    }

    pub fn optional(self, name: &str, value: Option<String>) -> Self {
        match value {
            Some(value) => self.raw(name, &value),
            None => self,
        }
    }

    pub fn end(mut self) -> String {
        self.text.push('}');
        self.text
    }
}

pub fn array(values: &[String]) -> String {
    format!("[{}]", values.join(","))
}

pub fn base64(value: &[u8]) -> String {
    format!("\"{}\"", STANDARD.encode(value))
}

/// Go also escapes what HTML would take for markup.
pub fn string(value: &str) -> String {
    let mut out = String::with_capacity(value.len() + 2);
    out.push('"');
    for c in value.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\0'..='\u{1f}' | '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_fields_are_left_out() {
        let object = Object::new().number("a", 0).text("b", "").bytes("c", b"").list("d", &[]).flag("e", false).optional("f", None);
        assert_eq!(object.end(), "{}");
        let object = Object::new().number("a", u64::MAX).bytes("c", b"a").texts("d", &["x".into(), "<".into()]).raw("n", "null");
        assert_eq!(object.end(), r#"{"a":18446744073709551615,"c":"YQ==","d":["x","\u003c"],"n":null}"#);
    }
}
