//! Tests of label and field selectors.

use super::*;

fn labels(text: &str) -> BTreeMap<String, String> {
    text.split(',').filter_map(|pair| pair.split_once('=')).map(|(k, v)| (k.to_owned(), v.to_owned())).collect()
}

#[test]
fn parses_and_prints() {
    for (input, expected) in [
        ("", ""),
        ("a=b", "a=b"),
        ("a==b", "a=b"),
        ("a!=b", "a!=b"),
        (" a = b , c ", "a=b,c"),
        ("!a", "!a"),
        ("a in (c, b)", "a in (b,c)"),
        ("a notin (b)", "a notin (b)"),
        ("a in ()", "a in ()"),
        ("a in (b,)", "a in (,b)"),
        ("a in (,b)", "a in (,b)"),
        ("a>1", "a>1"),
        ("a<1", "a<1"),
        ("b=1,a=2", "a=2,b=1"),
        ("in=notin", "in=notin"),
        ("a=", "a="),
        ("example.com/a=b", "example.com/a=b"),
    ] {
        assert_eq!(Selector::parse(input).expect(input).to_string(), expected, "{input}");
    }
}

#[test]
fn complains_as_upstream() {
    for (input, expected) in [
        ("a b", "unable to parse requirement: found 'b', expected: in, notin, =, ==, !=, gt, lt"),
        ("a=b,", "found '', expected: identifier after ','"),
        (",a", "found ',', expected: !, identifier, or 'end of string'"),
        ("a=b c", "found 'c', expected: ',' or 'end of string'"),
        ("a in b", "unable to parse requirement: found 'b' expected: '('"),
        ("a in (b", "unable to parse requirement: found '', expected: ',' or ')'"),
        ("a>b", "unable to parse requirement: values[0]: Invalid value: \"b\": for 'Gt', 'Lt' operators, the value must be an integer"),
    ] {
        assert_eq!(Selector::parse(input).expect_err(input).to_string(), expected, "{input}");
    }
    for input in ["a=-b", "-a=b", "!", "a!", "a=b=c", "!a=b", "x=a||y=b"] {
        assert!(Selector::parse(input).is_err(), "{input}");
    }
}

#[test]
fn matches_labels() {
    for (selector, has, expected) in [
        ("", "a=b", true),
        ("a=b", "a=b", true),
        ("a=b", "a=c", false),
        ("a=b", "", false),
        ("a!=b", "", true),
        ("a!=b", "a=b", false),
        ("a in (b,c)", "a=c", true),
        ("a notin (b,c)", "a=c", false),
        ("a", "a=", true),
        ("!a", "a=", false),
        ("a>5", "a=6", true),
        ("a>5", "a=x", false),
        ("a<5", "a=5", false),
    ] {
        assert_eq!(Selector::parse(selector).expect(selector).matches(&labels(has)), expected, "{selector} on {has}");
    }
    assert!(!Selector::nothing().matches(&labels("a=b")));
    assert!(Selector::from_label_selector(&LabelSelector::default()).expect("valid").is_everything());
}

#[test]
fn field_selectors() {
    let parsed = FieldSelector::parse("a=b,c!=d,e==f,g=x\\,y\\=z").expect("valid");
    assert_eq!(parsed.to_string(), "a=b,c!=d,e=f,g=x\\,y\\=z");
    let value = |field: &str| match field {
        "a" => Some("b"),
        "e" => Some("f"),
        "g" => Some("x,y=z"),
        _ => None,
    };
    assert!(parsed.matches(value));
    assert!(!FieldSelector::parse("a!=b").expect("valid").matches(value));
    assert_eq!(FieldSelector::parse("a").expect_err("no operator").to_string(), "invalid selector: 'a'; can't understand 'a'");
    assert!(FieldSelector::parse("a=b\\c").is_err());
    assert!(FieldSelector::parse("a=b=c").is_err());
}
