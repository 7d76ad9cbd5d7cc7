//! A question and the index to an answer: pure.
//! Source: kubernetes/dns docs/specification.md; CoreDNS plugin/kubernetes (kubernetes.go, reverse.go) where it is silent.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::records::{Endpoint, Entry, Port, Records};
use crate::wire::{CLASS_IN, Data, Query, Rcode, Record, Reply, kind};

/// The version of the specification that we follow.
const VERSION: &str = "1.1.0";

/// What zone is served and how.
#[derive(Clone, Debug)]
pub struct Zone {
    /// `cluster.local`: lower case, no dot at the end.
    pub domain: String,
    /// Seconds.
    pub ttl: u32,
    pub serial: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Reply(Reply),
    /// The name is an alias of a name outside: the reply so far, and what to ask others.
    Alias(Reply, String),
    /// Not ours.
    Forward,
}

/// What is under a name.
enum Found {
    /// The records of the name that fit the question, perhaps none, and further ones that will be asked for next.
    Records(Vec<Record>, Vec<Record>),
    Alias(String),
    Nothing,
}

/// Answers a question. `turn` is any number: it says with which of several answers to begin.
pub fn answer(zone: &Zone, records: &Records, query: &Query, turn: u32) -> Outcome {
    if query.edns.is_some_and(|e| e.version > 0) {
        return Outcome::Reply(Reply::new(Rcode::BadVers));
    }
    if query.class != CLASS_IN || matches!(query.kind, kind::AXFR | kind::IXFR | kind::OPT) {
        return Outcome::Reply(Reply::new(Rcode::Refused));
    }
    let Some(inside) = strip_zone(&query.name, &zone.domain) else {
        return reverse(zone, records, query).map_or(Outcome::Forward, Outcome::Reply);
    };
    let lookup = Lookup { zone, records, query };
    match lookup.find(inside) {
        Found::Nothing => Outcome::Reply(lookup.negative(Rcode::NxDomain)),
        Found::Records(answers, _) if answers.is_empty() => Outcome::Reply(lookup.negative(Rcode::NoError)),
        Found::Records(mut answers, additional) => {
            let first = turn as usize % answers.len();
            answers.rotate_left(first);
            Outcome::Reply(Reply { authoritative: true, answers, additional, ..Reply::new(Rcode::NoError) })
        }
        Found::Alias(target) => lookup.alias(target, turn),
    }
}

/// The part before the zone; empty for the zone itself.
fn strip_zone<'a>(name: &'a str, zone: &str) -> Option<&'a str> {
    let rest = name.strip_suffix(zone)?;
    if rest.is_empty() { Some(rest) } else { rest.strip_suffix('.') }
}

struct Lookup<'a> {
    zone: &'a Zone,
    records: &'a Records,
    query: &'a Query,
}

impl Lookup<'_> {
    fn record(&self, data: Data) -> Record {
        Record { name: self.query.name.clone(), ttl: self.zone.ttl, data }
    }

    fn find(&self, inside: &str) -> Found {
        let labels: Vec<&str> = inside.rsplit('.').filter(|label| !label.is_empty()).collect();
        match labels[..] {
            [] => self.apex(),
            ["dns-version"] => self.only(kind::TXT, Data::Txt(VERSION.into())),
            ["dns"] | ["svc"] | ["pod"] => Found::Records(vec![], vec![]),
            ["dns", "ns"] => self.name_server(),
            ["svc", namespace] | ["pod", namespace] if self.records.has_namespace(namespace) => Found::Records(vec![], vec![]),
            ["svc", namespace, service, ref rest @ ..] => match self.records.get(namespace, service) {
                Some(entry) => self.service(&entry, rest),
                None => Found::Nothing,
            },
            ["pod", namespace, address] if self.records.has_namespace(namespace) => match undash(address) {
                Some(ip) => self.addresses([ip].iter()),
                None => Found::Nothing,
            },
            _ => Found::Nothing,
        }
    }

    fn only(&self, kind: u16, data: Data) -> Found {
        let fits = self.query.kind == kind || self.query.kind == kind::ANY;
        Found::Records(if fits { vec![self.record(data)] } else { vec![] }, vec![])
    }

    fn apex(&self) -> Found {
        match self.query.kind {
            kind::SOA => Found::Records(vec![self.soa()], vec![]),
            kind::NS => self.only(kind::NS, Data::Ns(self.server_name())),
            _ => Found::Records(vec![], vec![]),
        }
    }

    fn server_name(&self) -> String {
        format!("ns.dns.{}", self.zone.domain)
    }

    /// The zone's server is the cluster's DNS service.
    fn name_server(&self) -> Found {
        match self.records.get("kube-system", "kube-dns").as_deref() {
            Some(Entry::ClusterIp { ips, .. }) => self.addresses(ips.iter()),
            _ => Found::Records(vec![], vec![]),
        }
    }

    fn addresses<'i>(&self, ips: impl Iterator<Item = &'i IpAddr>) -> Found {
        let kind = self.query.kind;
        let fits = |ip: &&IpAddr| kind == kind::ANY || kind == if ip.is_ipv4() { kind::A } else { kind::AAAA };
        Found::Records(ips.filter(fits).map(|ip| self.record(address(ip))).collect(), vec![])
    }

    /// `rest`: the labels before the service's name, backwards.
    fn service(&self, entry: &Entry, rest: &[&str]) -> Found {
        match (entry, rest) {
            (Entry::ExternalName(target), []) => Found::Alias(target.clone()),
            (Entry::ExternalName(_), _) => Found::Nothing,
            (Entry::ClusterIp { ips, ports }, []) => match self.query.kind {
                kind::SRV => self.service_ports(ips, ports.iter()),
                _ => self.addresses(ips.iter()),
            },
            (Entry::Headless { endpoints }, []) => match self.query.kind {
                kind::SRV => self.endpoint_ports(endpoints, |_| true),
                // A service without endpoints has no records at all. Source: specification, 2.4.1.
                _ if endpoints.is_empty() => Found::Nothing,
                _ => self.addresses(endpoints.iter().map(|e| &e.ip)),
            },
            (_, [protocol, port]) if protocol.starts_with('_') && port.starts_with('_') => {
                let wanted = |p: &Port| p.protocol == &protocol[1..] && !p.name.is_empty() && p.name == port[1..];
                match entry {
                    Entry::ClusterIp { ips, ports } => self.service_ports(ips, ports.iter().filter(|p| wanted(p))),
                    Entry::Headless { endpoints } => self.endpoint_ports(endpoints, wanted),
                    Entry::ExternalName(_) => Found::Nothing,
                }
            }
            // There are names below this one, though it has no records itself.
            (_, [protocol]) if has_protocol(entry, protocol) => Found::Records(vec![], vec![]),
            (Entry::Headless { endpoints }, [host]) => {
                let mut named = endpoints.iter().filter(|e| e.host.eq_ignore_ascii_case(host)).peekable();
                match named.peek() {
                    None => Found::Nothing,
                    Some(_) if self.query.kind == kind::SRV => self.endpoint_ports(&named.cloned().collect::<Vec<_>>(), |_| true),
                    Some(_) => self.addresses(named.map(|e| &e.ip)),
                }
            }
            _ => Found::Nothing,
        }
    }

    /// The name of the service that the question is about, in full.
    fn service_name(&self) -> String {
        let labels: Vec<&str> = self.query.name[..self.query.name.len() - self.zone.domain.len() - 1].rsplitn(4, '.').collect();
        let [kind, namespace, service] = [labels[0], labels[1], labels[2]];
        format!("{service}.{namespace}.{kind}.{}", self.zone.domain)
    }

    fn service_ports<'p>(&self, ips: &[IpAddr], ports: impl Iterator<Item = &'p Port>) -> Found {
        let target = self.service_name();
        let ports: Vec<&Port> = ports.collect();
        let weight = weight(ports.len());
        let answers: Vec<Record> = ports.iter().map(|p| self.srv(weight, p.number, &target)).collect();
        if answers.is_empty() {
            return Found::Nothing;
        }
        let additional = ips.iter().map(|ip| Record { name: target.clone(), ttl: self.zone.ttl, data: address(ip) }).collect();
        self.if_srv(answers, additional)
    }

    fn endpoint_ports(&self, endpoints: &[Endpoint], wanted: impl Fn(&Port) -> bool) -> Found {
        let service = self.service_name();
        let pairs: Vec<(&Endpoint, &Port)> =
            endpoints.iter().flat_map(|e| e.ports.iter().map(move |p| (e, p))).filter(|(_, p)| wanted(p)).collect();
        if pairs.is_empty() {
            return Found::Nothing;
        }
        let weight = weight(pairs.len());
        let mut additional: Vec<Record> = Vec::new();
        let mut answers: Vec<Record> = Vec::new();
        for (endpoint, port) in pairs {
            let target = format!("{}.{service}", endpoint.host);
            let record = self.srv(weight, port.number, &target);
            // Both families of a pod have one name.
            if !answers.contains(&record) {
                answers.push(record);
            }
            let record = Record { name: target, ttl: self.zone.ttl, data: address(&endpoint.ip) };
            if !additional.contains(&record) {
                additional.push(record);
            }
        }
        self.if_srv(answers, additional)
    }

    fn if_srv(&self, answers: Vec<Record>, additional: Vec<Record>) -> Found {
        if matches!(self.query.kind, kind::SRV | kind::ANY) { Found::Records(answers, additional) } else { Found::Records(vec![], vec![]) }
    }

    fn srv(&self, weight: u16, port: u16, target: &str) -> Record {
        self.record(Data::Srv { priority: 0, weight, port, target: target.to_owned() })
    }

    /// An ExternalName service. A target in the cluster is resolved at once.
    fn alias(&self, target: String, turn: u32) -> Outcome {
        let cname = self.record(Data::Cname(target.clone()));
        let reply = Reply { authoritative: true, answers: vec![cname], ..Reply::new(Rcode::NoError) };
        if !matches!(self.query.kind, kind::A | kind::AAAA | kind::SRV | kind::TXT) {
            return Outcome::Reply(reply);
        }
        if strip_zone(&target, &self.zone.domain).is_none() {
            return Outcome::Alias(reply, target);
        }
        let Some(next) = Query::new(0, &target, self.query.kind) else { return Outcome::Reply(reply) };
        let lookup = Lookup { query: &next, ..*self };
        let inside = strip_zone(&target, &self.zone.domain).unwrap_or_default();
        match lookup.find(inside) {
            Found::Records(mut more, additional) => {
                if !more.is_empty() {
                    let first = turn as usize % more.len();
                    more.rotate_left(first);
                }
                let answers = reply.answers.into_iter().chain(more).collect();
                Outcome::Reply(Reply { authoritative: true, answers, additional, ..Reply::new(Rcode::NoError) })
            }
            // A chain of aliases within the cluster ends here: it could be a ring.
            Found::Alias(_) | Found::Nothing => Outcome::Reply(reply),
        }
    }

    fn soa(&self) -> Record {
        let (server, mailbox) = (self.server_name(), format!("hostmaster.{}", self.zone.domain));
        let data =
            Data::Soa { server, mailbox, serial: self.zone.serial, refresh: 7200, retry: 1800, expire: 86400, minimum: self.zone.ttl };
        Record { name: self.zone.domain.clone(), ttl: self.zone.ttl, data }
    }

    fn negative(&self, rcode: Rcode) -> Reply {
        Reply { authoritative: true, authority: vec![self.soa()], ..Reply::new(rcode) }
    }
}

fn has_protocol(entry: &Entry, label: &str) -> bool {
    let Some(protocol) = label.strip_prefix('_') else { return false };
    match entry {
        Entry::ClusterIp { ports, .. } => ports.iter().any(|p| p.protocol == protocol && !p.name.is_empty()),
        Entry::Headless { endpoints } => endpoints.iter().flat_map(|e| &e.ports).any(|p| p.protocol == protocol && !p.name.is_empty()),
        Entry::ExternalName(_) => false,
    }
}

/// Equal shares of a hundred. Source: CoreDNS plugin/backend_lookup.go.
fn weight(count: usize) -> u16 {
    (100 / count.clamp(1, 100)) as u16
}

fn address(ip: &IpAddr) -> Data {
    match ip {
        IpAddr::V4(ip) => Data::A(*ip),
        IpAddr::V6(ip) => Data::Aaaa(*ip),
    }
}

/// `10-244-0-2` or `fd00--2`.
fn undash(label: &str) -> Option<IpAddr> {
    let v4 = label.replace('-', ".").parse::<Ipv4Addr>().ok().map(IpAddr::V4);
    v4.or_else(|| label.replace('-', ":").parse::<Ipv6Addr>().ok().map(IpAddr::V6))
}

/// Names of addresses. What is not an address of the cluster is asked elsewhere.
fn reverse(zone: &Zone, records: &Records, query: &Query) -> Option<Reply> {
    let ip = reverse_address(&query.name)?;
    let names = records.names_of(&ip);
    if names.is_empty() {
        return None;
    }
    let mut answers = Vec::new();
    if matches!(query.kind, kind::PTR | kind::ANY) {
        let record = |name: String| Record { name: query.name.clone(), ttl: zone.ttl, data: Data::Ptr(name) };
        answers.extend(names.into_iter().map(|name| record(format!("{name}.svc.{}", zone.domain))));
    }
    Some(Reply { authoritative: true, answers, ..Reply::new(Rcode::NoError) })
}

/// `2.0.244.10.in-addr.arpa` and the nibbles of `ip6.arpa`.
fn reverse_address(name: &str) -> Option<IpAddr> {
    if let Some(rest) = name.strip_suffix(".in-addr.arpa") {
        let octets: Vec<&str> = rest.split('.').rev().collect();
        return octets.join(".").parse::<Ipv4Addr>().ok().map(IpAddr::V4);
    }
    let nibbles: Vec<&str> = name.strip_suffix(".ip6.arpa")?.split('.').rev().collect();
    if nibbles.len() != 32 || nibbles.iter().any(|n| n.len() != 1) {
        return None;
    }
    let number = u128::from_str_radix(&nibbles.concat(), 16).ok()?;
    Some(IpAddr::V6(number.into()))
}

#[cfg(test)]
mod tests;
