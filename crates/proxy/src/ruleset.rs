//! A table of the packet filter as a value, and the difference of two as one nft transaction. Knows nothing of Services.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

/// The name of the tables, upstream's (pkg/proxy/nftables/proxier.go).
pub const TABLE: &str = "kube-proxy";

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Family {
    Ip,
    Ip6,
}

impl Family {
    pub fn as_str(self) -> &'static str {
        match self {
            Family::Ip => "ip",
            Family::Ip6 => "ip6",
        }
    }

    pub fn holds(self, ip: &std::net::IpAddr) -> bool {
        ip.is_ipv4() == (self == Family::Ip)
    }
}

/// A chain: where it hooks in (`type nat hook prerouting priority -100`), if it does, and its rules.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chain {
    pub hook: Option<&'static str>,
    pub rules: Vec<String>,
}

/// A set (elements have no value) or a map. The elements of a set that rules fill (`dynamic`) are not ours to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Set {
    /// `set` or `map`.
    pub kind: &'static str,
    /// Its type and flags, as nft writes them.
    pub declaration: String,
    pub elements: BTreeMap<String, String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    pub family: Family,
    pub chains: BTreeMap<String, Chain>,
    pub sets: BTreeMap<String, Set>,
}

/// The tables of both families.
pub type Ruleset = Vec<Table>;

/// The script that makes `new` of `old`; of anything at all if there is no `old`. Empty if nothing is to be done.
pub fn transaction(old: Option<&Ruleset>, new: &Ruleset) -> String {
    let mut script = String::new();
    for table in new {
        match old.and_then(|old| old.iter().find(|t| t.family == table.family)) {
            Some(old) => Writer { table, script: &mut script }.update(old),
            None => Writer { table, script: &mut script }.replace(),
        }
    }
    script
}

/// The script that removes our tables, whether or not they are there.
pub fn removal() -> String {
    [Family::Ip, Family::Ip6].map(|f| format!("table {0} {TABLE} {{ }}\ndelete table {0} {TABLE}\n", f.as_str())).concat()
}

struct Writer<'a> {
    table: &'a Table,
    script: &'a mut String,
}

impl Writer<'_> {
    fn line(&mut self, verb: &str, rest: std::fmt::Arguments<'_>) {
        let family = self.table.family.as_str();
        // Writing to a String cannot fail.
        let _ = writeln!(self.script, "{verb} {family} {TABLE} {rest}");
    }

    fn replace(&mut self) {
        let family = self.table.family.as_str();
        let _ = write!(self.script, "table {family} {TABLE} {{ }}\ndelete table {family} {TABLE}\nadd table {family} {TABLE}\n");
        let empty = Table { family: self.table.family, chains: BTreeMap::new(), sets: BTreeMap::new() };
        self.update(&empty);
    }

    /// Elements of verdict maps name chains, so chains come first and go last.
    fn update(&mut self, old: &Table) {
        let table = self.table;
        let recreated: BTreeSet<&String> = table
            .sets
            .iter()
            .filter(|(name, set)| old.sets.get(*name).is_some_and(|o| o.declaration != set.declaration))
            .map(|(n, _)| n)
            .collect();
        self.add_chains(old);
        for (name, set) in &table.sets {
            let before = old.sets.get(name).filter(|_| !recreated.contains(name));
            if recreated.contains(name) {
                // Rules that use it are in chains that are filled again below.
                self.flush_users(old, name);
                self.line(&format!("delete {}", set.kind), format_args!("{name}"));
            }
            self.set(name, set, before);
        }
        self.rules(old, &recreated);
        for name in old.chains.keys().filter(|name| !table.chains.contains_key(*name)) {
            self.line("flush chain", format_args!("{name}"));
        }
        for name in old.chains.keys().filter(|name| !table.chains.contains_key(*name)) {
            self.line("delete chain", format_args!("{name}"));
        }
        for (name, set) in old.sets.iter().filter(|(name, _)| !table.sets.contains_key(*name)) {
            self.line(&format!("delete {}", set.kind), format_args!("{name}"));
        }
    }

    fn add_chains(&mut self, old: &Table) {
        for (name, chain) in self.table.chains.iter().filter(|(name, _)| !old.chains.contains_key(*name)) {
            match chain.hook {
                Some(hook) => self.line("add chain", format_args!("{name} {{ {hook} ; }}")),
                None => self.line("add chain", format_args!("{name}")),
            }
        }
    }

    fn flush_users(&mut self, old: &Table, set: &str) {
        let needle = format!("@{set} ");
        for (name, _) in old.chains.iter().filter(|(_, chain)| chain.rules.iter().any(|r| format!("{r} ").contains(&needle))) {
            self.line("flush chain", format_args!("{name}"));
        }
    }

    fn set(&mut self, name: &str, set: &Set, old: Option<&Set>) {
        if old.is_none() {
            self.line(&format!("add {}", set.kind), format_args!("{name} {{ {} }}", set.declaration));
        }
        let empty = BTreeMap::new();
        let before = old.map_or(&empty, |o| &o.elements);
        let gone = before.iter().filter(|(key, value)| set.elements.get(*key) != Some(value)).map(|(key, _)| key.clone());
        self.elements("delete", name, gone.collect());
        let come = set.elements.iter().filter(|(key, value)| before.get(*key) != Some(value));
        let come = come.map(|(key, value)| if value.is_empty() { key.clone() } else { format!("{key} : {value}") });
        self.elements("add", name, come.collect());
    }

    fn elements(&mut self, verb: &str, name: &str, elements: Vec<String>) {
        // One line per many elements: nft parses long lines slowly.
        for some in elements.chunks(200) {
            self.line(verb_element(verb), format_args!("{name} {{ {} }}", some.join(", ")));
        }
    }

    fn rules(&mut self, old: &Table, recreated: &BTreeSet<&String>) {
        for (name, chain) in &self.table.chains {
            let uses = |rule: &String| recreated.iter().any(|set| format!("{rule} ").contains(&format!("@{set} ")));
            let before = old.chains.get(name);
            if before.is_some_and(|b| b.rules == chain.rules) && !chain.rules.iter().any(uses) {
                continue;
            }
            if before.is_some() {
                self.line("flush chain", format_args!("{name}"));
            }
            for rule in &chain.rules {
                self.line("add rule", format_args!("{name} {rule}"));
            }
        }
    }
}

fn verb_element(verb: &str) -> &'static str {
    if verb == "add" { "add element" } else { "delete element" }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(chains: &[(&str, &[&str])], elements: &[(&str, &str)]) -> Ruleset {
        let chain = |rules: &[&str]| Chain { hook: None, rules: rules.iter().map(|r| r.to_string()).collect() };
        let set = Set {
            kind: "map",
            declaration: "type ipv4_addr : verdict ;".into(),
            elements: elements.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect(),
        };
        let chains = chains.iter().map(|(name, rules)| (name.to_string(), chain(rules))).collect();
        vec![Table { family: Family::Ip, chains, sets: BTreeMap::from([("m".to_string(), set)]) }]
    }

    fn check(old: &Ruleset, new: &Ruleset, expected: &[&str]) {
        let script = transaction(Some(old), new);
        assert_eq!(script.lines().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn nothing_changed_is_nothing_to_do() {
        let one = table(&[("a", &["accept"])], &[("1.2.3.4", "goto a")]);
        check(&one, &one.clone(), &[]);
    }

    #[test]
    fn only_what_differs_is_written() {
        let old = table(&[("a", &["accept"]), ("b", &["drop"])], &[("1.1.1.1", "goto a"), ("2.2.2.2", "goto b")]);
        let new = table(&[("a", &["accept"]), ("c", &["drop"])], &[("1.1.1.1", "goto a"), ("2.2.2.2", "goto c")]);
        check(
            &old,
            &new,
            &[
                "add chain ip kube-proxy c",
                "delete element ip kube-proxy m { 2.2.2.2 }",
                "add element ip kube-proxy m { 2.2.2.2 : goto c }",
                "add rule ip kube-proxy c drop",
                "flush chain ip kube-proxy b",
                "delete chain ip kube-proxy b",
            ],
        );
    }

    #[test]
    fn without_an_old_one_the_table_is_replaced() {
        let script = transaction(None, &table(&[("a", &["accept"])], &[]));
        let expected = [
            "table ip kube-proxy { }",
            "delete table ip kube-proxy",
            "add table ip kube-proxy",
            "add chain ip kube-proxy a",
            "add map ip kube-proxy m { type ipv4_addr : verdict ; }",
            "add rule ip kube-proxy a accept",
        ];
        assert_eq!(script.lines().collect::<Vec<_>>(), expected);
    }
}
