//! Label and field selectors (apimachinery/pkg/labels, pkg/fields): parsing with upstream's complaints, matching. Must not do I/O.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use crate::names;

/// Why a text is not a selector.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SelectorError(pub String);

fn error<T>(text: impl Into<String>) -> Result<T, SelectorError> {
    Err(SelectorError(text.into()))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    In,
    NotIn,
    Exists,
    DoesNotExist,
    GreaterThan,
    LessThan,
}

/// One term of a label selector. `=` and `==` are `In` with one value, `!=` is `NotIn` with one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requirement {
    pub key: String,
    pub operator: Operator,
    pub values: BTreeSet<String>,
    /// Written as `=` or `!=`, and printed so again.
    exact: bool,
}

impl Requirement {
    pub fn new(key: &str, operator: Operator, values: BTreeSet<String>) -> Result<Self, SelectorError> {
        Self::build("key", key, operator, values, false)
    }

    fn build(path: &str, key: &str, operator: Operator, values: BTreeSet<String>, exact: bool) -> Result<Self, SelectorError> {
        check_key(path, key)?;
        match operator {
            Operator::In | Operator::NotIn if values.is_empty() => {
                return error("values: Invalid value: []: for 'in', 'notin' operators, values set can't be empty");
            }
            Operator::Exists | Operator::DoesNotExist if !values.is_empty() => {
                let list: Vec<String> = values.iter().map(|v| format!("{v:?}")).collect();
                return error(format!(
                    "values: Invalid value: [{}]: values set must be empty for exists and does not exist",
                    list.join(",")
                ));
            }
            Operator::GreaterThan | Operator::LessThan => check_bound(&values)?,
            _ => {}
        }
        for (index, value) in values.iter().enumerate() {
            let problems = names::label_value(value);
            if !problems.is_empty() {
                return error(format!("values[{index}][{key}]: Invalid value: {value:?}: {}", problems.join("; ")));
            }
        }
        Ok(Self { key: key.to_owned(), operator, values, exact })
    }

    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        let value = labels.get(&self.key);
        let bound = || self.values.first().and_then(|v| v.parse::<i64>().ok());
        let number = || value.and_then(|v| v.parse::<i64>().ok());
        match self.operator {
            Operator::In => value.is_some_and(|v| self.values.contains(v)),
            Operator::NotIn => value.is_none_or(|v| !self.values.contains(v)),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
            Operator::GreaterThan => matches!((number(), bound()), (Some(n), Some(b)) if n > b),
            Operator::LessThan => matches!((number(), bound()), (Some(n), Some(b)) if n < b),
        }
    }
}

fn check_key(path: &str, key: &str) -> Result<(), SelectorError> {
    let problems = names::qualified_name(key);
    if problems.is_empty() { Ok(()) } else { error(format!("{path}: Invalid value: {key:?}: {}", problems.join("; "))) }
}

fn check_bound(values: &BTreeSet<String>) -> Result<(), SelectorError> {
    let (Some(value), 1) = (values.first(), values.len()) else {
        return error("values: Invalid value: []: for 'Gt', 'Lt' operators, exactly one value is required");
    };
    if value.parse::<i64>().is_err() {
        return error(format!("values[0]: Invalid value: {value:?}: for 'Gt', 'Lt' operators, the value must be an integer"));
    }
    Ok(())
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let values = || self.values.iter().map(String::as_str).collect::<Vec<_>>().join(",");
        match self.operator {
            Operator::Exists => f.write_str(&self.key),
            Operator::DoesNotExist => write!(f, "!{}", self.key),
            Operator::In if self.exact => write!(f, "{}={}", self.key, values()),
            Operator::NotIn if self.exact => write!(f, "{}!={}", self.key, values()),
            Operator::In => write!(f, "{} in ({})", self.key, values()),
            Operator::NotIn => write!(f, "{} notin ({})", self.key, values()),
            Operator::GreaterThan => write!(f, "{}>{}", self.key, values()),
            Operator::LessThan => write!(f, "{}<{}", self.key, values()),
        }
    }
}

/// A label selector: all its requirements must hold. `Display` gives the text that `parse` reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selector {
    /// None selects nothing.
    requirements: Option<Vec<Requirement>>,
}

impl Selector {
    pub fn everything() -> Self {
        Self { requirements: Some(Vec::new()) }
    }

    pub fn nothing() -> Self {
        Self { requirements: None }
    }

    /// The terms, empty for both `everything` and `nothing`.
    pub fn requirements(&self) -> &[Requirement] {
        self.requirements.as_deref().unwrap_or_default()
    }

    pub fn is_everything(&self) -> bool {
        self.requirements.as_ref().is_some_and(Vec::is_empty)
    }

    /// Reads `a=b,c in (d,e),!f`.
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        let mut requirements = Parser { tokens: lex(text), at: 0 }.requirements()?;
        requirements.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(Self { requirements: Some(requirements) })
    }

    /// Of a map whose every pair must be there, as Services have it.
    pub fn from_map(labels: &BTreeMap<String, String>) -> Self {
        let requirements = labels
            .iter()
            .map(|(key, value)| Requirement {
                key: key.clone(),
                operator: Operator::In,
                values: BTreeSet::from([value.clone()]),
                exact: true,
            })
            .collect();
        Self { requirements: Some(requirements) }
    }

    /// An empty selector selects everything. For an absent one the API means nothing: callers pass `Selector::nothing()`.
    pub fn from_label_selector(selector: &LabelSelector) -> Result<Self, SelectorError> {
        let mut all = Self::from_map(selector.match_labels.as_ref().unwrap_or(&BTreeMap::new()));
        let requirements = all.requirements.get_or_insert_with(Vec::new);
        for term in selector.match_expressions.iter().flatten() {
            let operator = match term.operator.as_str() {
                "In" => Operator::In,
                "NotIn" => Operator::NotIn,
                "Exists" => Operator::Exists,
                "DoesNotExist" => Operator::DoesNotExist,
                other => return error(format!("{other:?} is not a valid label selector operator")),
            };
            let values = term.values.iter().flatten().cloned().collect();
            requirements.push(Requirement::new(&term.key, operator, values)?);
        }
        requirements.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(all)
    }

    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.requirements.as_ref().is_some_and(|all| all.iter().all(|requirement| requirement.matches(labels)))
    }

    /// As `matches`, for labels that may be absent.
    pub fn matches_opt(&self, labels: Option<&BTreeMap<String, String>>) -> bool {
        static NONE: BTreeMap<String, String> = BTreeMap::new();
        self.matches(labels.unwrap_or(&NONE))
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, requirement) in self.requirements().iter().enumerate() {
            if index > 0 {
                f.write_str(",")?;
            }
            requirement.fmt(f)?;
        }
        Ok(())
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Symbol(&'static str),
    /// `in` and `notin` too: only their place tells them from labels.
    Word(String),
    /// Symbols that mean nothing together.
    Bad(String),
    End,
}

impl Token {
    fn literal(&self) -> &str {
        match self {
            Self::Symbol(text) => text,
            Self::Word(text) | Self::Bad(text) => text,
            Self::End => "",
        }
    }
}

const SYMBOLS: &[&str] = &["==", "!=", ")", ",", "!", "=", ">", "<", "("];

fn lex(text: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        if let Some(symbol) = SYMBOLS.iter().find(|symbol| rest.starts_with(**symbol)) {
            tokens.push(Token::Symbol(symbol));
            rest = &rest[symbol.len()..];
        } else {
            let end = rest.find(|c: char| c.is_ascii_whitespace() || "=!(),><".contains(c)).unwrap_or(rest.len());
            if end == 0 {
                tokens.push(Token::Bad(rest.to_owned()));
                break;
            }
            tokens.push(Token::Word(rest[..end].to_owned()));
            rest = &rest[end..];
        }
        rest = rest.trim_start();
    }
    tokens.push(Token::End);
    tokens
}

struct Parser {
    tokens: Vec<Token>,
    at: usize,
}

impl Parser {
    fn peek(&self) -> &Token {
        self.tokens.get(self.at).unwrap_or(&Token::End)
    }

    fn next(&mut self) -> Token {
        let token = self.peek().clone();
        self.at += 1;
        token
    }

    fn requirements(&mut self) -> Result<Vec<Requirement>, SelectorError> {
        let mut all = Vec::new();
        loop {
            match self.peek() {
                Token::End => return Ok(all),
                Token::Word(_) | Token::Symbol("!") => {}
                other => return error(format!("found '{}', expected: !, identifier, or 'end of string'", other.literal())),
            }
            let requirement =
                self.requirement().map_err(|SelectorError(cause)| SelectorError(format!("unable to parse requirement: {cause}")))?;
            all.push(requirement);
            match self.next() {
                Token::End => return Ok(all),
                Token::Symbol(",") => {}
                other => return error(format!("found '{}', expected: ',' or 'end of string'", other.literal())),
            }
            if !matches!(self.peek(), Token::Word(_) | Token::Symbol("!")) {
                return error(format!("found '{}', expected: identifier after ','", self.peek().literal()));
            }
        }
    }

    fn requirement(&mut self) -> Result<Requirement, SelectorError> {
        let negated = *self.peek() == Token::Symbol("!");
        if negated {
            self.at += 1;
        }
        let key = match self.next() {
            Token::Word(key) => key,
            other => return error(format!("found '{}', expected: identifier", other.literal())),
        };
        check_key("<nil>", &key)?;
        if negated {
            return Requirement::build("key", &key, Operator::DoesNotExist, BTreeSet::new(), false);
        }
        if matches!(self.peek(), Token::End | Token::Symbol(",")) {
            return Requirement::build("key", &key, Operator::Exists, BTreeSet::new(), false);
        }
        let token = self.next();
        let (operator, exact) = match &token {
            Token::Symbol("=" | "==") => (Operator::In, true),
            Token::Symbol("!=") => (Operator::NotIn, true),
            Token::Symbol(">") => (Operator::GreaterThan, true),
            Token::Symbol("<") => (Operator::LessThan, true),
            Token::Word(word) if word == "in" => (Operator::In, false),
            Token::Word(word) if word == "notin" => (Operator::NotIn, false),
            other => return error(format!("found '{}', expected: in, notin, =, ==, !=, gt, lt", other.literal())),
        };
        let values = if exact { self.exact_value()? } else { self.values()? };
        Requirement::build("key", &key, operator, values, exact)
    }

    fn exact_value(&mut self) -> Result<BTreeSet<String>, SelectorError> {
        if matches!(self.peek(), Token::End | Token::Symbol(",")) {
            return Ok(BTreeSet::from([String::new()]));
        }
        match self.next() {
            Token::Word(value) => Ok(BTreeSet::from([value])),
            other => error(format!("found '{}', expected: identifier", other.literal())),
        }
    }

    /// `(a,b)`; missing values count as empty ones.
    fn values(&mut self) -> Result<BTreeSet<String>, SelectorError> {
        match self.next() {
            Token::Symbol("(") => {}
            other => return error(format!("found '{}' expected: '('", other.literal())),
        }
        let mut values = BTreeSet::new();
        loop {
            match self.next() {
                Token::Word(value) => {
                    values.insert(value);
                    match self.next() {
                        Token::Symbol(",") if *self.peek() != Token::Symbol(")") => {}
                        Token::Symbol(",") => continue,
                        Token::Symbol(")") => return Ok(values),
                        other => return error(format!("found '{}', expected: ',' or ')'", other.literal())),
                    }
                }
                Token::Symbol(",") => {
                    values.insert(String::new());
                }
                Token::Symbol(")") => {
                    values.insert(String::new());
                    return Ok(values);
                }
                other => return error(format!("found '{}', expected: ',', ')' or identifier", other.literal())),
            }
        }
    }
}

/// One term of a field selector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldRequirement {
    pub field: String,
    /// `!=`.
    pub negated: bool,
    pub value: String,
}

/// A field selector: `spec.nodeName=x,status.phase!=Failed`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldSelector {
    pub requirements: Vec<FieldRequirement>,
}

impl FieldSelector {
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        let mut requirements = Vec::new();
        for term in split_unescaped(text) {
            if term.is_empty() {
                continue;
            }
            let Some((field, negated, value)) = split_term(term) else {
                return error(format!("invalid selector: '{text}'; can't understand '{term}'"));
            };
            requirements.push(FieldRequirement { field: field.to_owned(), negated, value: unescape(value)? });
        }
        Ok(Self { requirements })
    }

    /// `field` gives the value of a field, None where the kind has no such field; an absent value is an empty text.
    pub fn matches<'a>(&self, field: impl Fn(&str) -> Option<&'a str>) -> bool {
        self.requirements.iter().all(|term| (field(&term.field).unwrap_or_default() == term.value) != term.negated)
    }

    pub fn is_empty(&self) -> bool {
        self.requirements.is_empty()
    }

    /// The value that the field must have, if the selector says so.
    pub fn exact(&self, field: &str) -> Option<&str> {
        self.requirements.iter().find(|term| term.field == field && !term.negated).map(|term| term.value.as_str())
    }
}

impl fmt::Display for FieldSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, term) in self.requirements.iter().enumerate() {
            let comma = if index > 0 { "," } else { "" };
            let operator = if term.negated { "!=" } else { "=" };
            write!(f, "{comma}{}{operator}{}", term.field, escape(&term.value))?;
        }
        Ok(())
    }
}

fn split_unescaped(text: &str) -> Vec<&str> {
    let (mut parts, mut start, mut escaped) = (Vec::new(), 0, false);
    for (index, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            ',' => {
                parts.push(&text[start..index]);
                start = index + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}

fn split_term(term: &str) -> Option<(&str, bool, &str)> {
    for (index, _) in term.char_indices() {
        let rest = &term[index..];
        for (operator, negated) in [("!=", true), ("==", false), ("=", false)] {
            if let Some(value) = rest.strip_prefix(operator) {
                return Some((&term[..index], negated, value));
            }
        }
    }
    None
}

fn unescape(text: &str) -> Result<String, SelectorError> {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some(next @ ('\\' | ',' | '=')) => out.push(next),
                next => {
                    let next = next.map(String::from).unwrap_or_default();
                    return error(format!("invalid field selector: invalid escape sequence: \\{next}"));
                }
            },
            ',' | '=' => return error(format!("invalid field selector: unescaped character in value: {c}")),
            _ => out.push(c),
        }
    }
    Ok(out)
}

fn escape(text: &str) -> String {
    text.replace('\\', "\\\\").replace(',', "\\,").replace('=', "\\=")
}

#[cfg(test)]
mod tests;
