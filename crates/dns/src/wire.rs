//! DNS messages on the wire: reads queries, writes replies. Bytes from the network are hostile: nothing here may panic or loop.
//! Source: RFC 1035 section 4, RFC 6891 (EDNS), RFC 2782 (SRV).

use std::net::{Ipv4Addr, Ipv6Addr};

pub mod kind {
    pub const A: u16 = 1;
    pub const NS: u16 = 2;
    pub const CNAME: u16 = 5;
    pub const SOA: u16 = 6;
    pub const PTR: u16 = 12;
    pub const TXT: u16 = 16;
    pub const AAAA: u16 = 28;
    pub const SRV: u16 = 33;
    pub const OPT: u16 = 41;
    pub const IXFR: u16 = 251;
    pub const AXFR: u16 = 252;
    pub const ANY: u16 = 255;

    /// The name for metrics.
    pub fn name(kind: u16) -> &'static str {
        match kind {
            A => "A",
            NS => "NS",
            CNAME => "CNAME",
            SOA => "SOA",
            PTR => "PTR",
            TXT => "TXT",
            AAAA => "AAAA",
            SRV => "SRV",
            ANY => "ANY",
            15 => "MX",
            43 => "DS",
            48 => "DNSKEY",
            65 => "HTTPS",
            _ => "other",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rcode {
    NoError = 0,
    FormErr = 1,
    ServFail = 2,
    NxDomain = 3,
    NotImp = 4,
    Refused = 5,
    BadVers = 16,
}

impl Rcode {
    pub fn name(self) -> &'static str {
        match self {
            Rcode::NoError => "NOERROR",
            Rcode::FormErr => "FORMERR",
            Rcode::ServFail => "SERVFAIL",
            Rcode::NxDomain => "NXDOMAIN",
            Rcode::NotImp => "NOTIMP",
            Rcode::Refused => "REFUSED",
            Rcode::BadVers => "BADVERS",
        }
    }
}

const FLAG_QR: u16 = 0x8000;
const FLAG_AA: u16 = 0x0400;
const FLAG_TC: u16 = 0x0200;
const FLAG_RD: u16 = 0x0100;
const FLAG_RA: u16 = 0x0080;
const FLAG_CD: u16 = 0x0010;
pub const CLASS_IN: u16 = 1;
const HEADER: usize = 12;
const OPT_LENGTH: usize = 11;
/// Largest answer over UDP: does not fragment anywhere. Source: DNS flag day 2020.
const MAX_UDP: u16 = 1232;

/// What a client asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    pub id: u16,
    flags: u16,
    /// Lower case, dots between labels, none at the end; the root is empty.
    pub name: String,
    pub kind: u16,
    pub class: u16,
    /// Name, type and class as they came: the case of the name must come back.
    question: Vec<u8>,
    pub edns: Option<Edns>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Edns {
    pub payload: u16,
    pub version: u8,
    pub dnssec: bool,
}

/// Why a message is not a query that can be worked on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bad {
    /// No header, or an answer: replying could make two servers talk for ever.
    Ignore,
    /// To be answered with this code; the ID and flags of the query.
    Reply(Rcode, u16, u16),
}

fn word(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]))
}

/// Reads a query.
pub fn parse(bytes: &[u8]) -> Result<Query, Bad> {
    let header = |n: usize| word(bytes, n * 2).ok_or(Bad::Ignore);
    let (id, flags) = (header(0)?, header(1)?);
    let counts = [header(2)?, header(3)?, header(4)?, header(5)?];
    if flags & FLAG_QR != 0 {
        return Err(Bad::Ignore);
    }
    let bad = |code| Bad::Reply(code, id, flags);
    if flags & 0x7800 != 0 {
        return Err(bad(Rcode::NotImp));
    }
    if counts[0] != 1 {
        return Err(bad(Rcode::FormErr));
    }
    let malformed = || bad(Rcode::FormErr);
    let (name, end) = plain_name(bytes, HEADER).ok_or_else(malformed)?;
    let kind = word(bytes, end).ok_or_else(malformed)?;
    let class = word(bytes, end + 2).ok_or_else(malformed)?;
    let question = bytes[HEADER..end + 4].to_vec();
    let edns = find_opt(bytes, end + 4, &counts).ok_or_else(malformed)?;
    Ok(Query { id, flags, name, kind, class, question, edns })
}

/// A name without compression, in lower case, and where it ends.
fn plain_name(bytes: &[u8], mut at: usize) -> Option<(String, usize)> {
    let start = at;
    let mut name = String::with_capacity(64);
    loop {
        let length = usize::from(*bytes.get(at)?);
        at += 1;
        if length == 0 {
            return (at - start <= 255).then_some((name, at));
        }
        if length > 63 || at - start > 255 {
            return None;
        }
        if !name.is_empty() {
            name.push('.');
        }
        push_label(&mut name, bytes.get(at..at + length)?);
        at += length;
    }
}

/// Bytes that are not of a host name are written as `\DDD`, so that a dot inside a label is no border.
fn push_label(name: &mut String, label: &[u8]) {
    for byte in label {
        match byte {
            b'.' | b'\\' | 0..=0x20 | 0x7f..=0xff => name.push_str(&format!("\\{byte:03}")),
            byte => name.push(char::from(byte.to_ascii_lowercase())),
        }
    }
}

/// Where a name ends that may be compressed.
fn skip_name(bytes: &[u8], mut at: usize) -> Option<usize> {
    loop {
        let length = *bytes.get(at)?;
        match length {
            0 => return Some(at + 1),
            1..=63 => at += 1 + usize::from(length),
            192..=255 => return bytes.get(at + 1).map(|_| at + 2),
            _ => return None,
        }
    }
}

/// A name that may be compressed. Each pointer must point backwards, so that there is an end.
fn read_name(bytes: &[u8], mut at: usize) -> Option<String> {
    let mut name = String::new();
    let mut limit = at;
    loop {
        let length = *bytes.get(at)?;
        match length {
            0 => return Some(name),
            1..=63 => {
                if !name.is_empty() {
                    name.push('.');
                }
                push_label(&mut name, bytes.get(at + 1..at + 1 + usize::from(length))?);
                at += 1 + usize::from(length);
                if name.len() > 1024 {
                    return None;
                }
            }
            192..=255 => {
                at = usize::from(word(bytes, at)? & 0x3fff);
                if at >= limit {
                    return None;
                }
                limit = at;
            }
            _ => return None,
        }
    }
}

/// A resource record of a message: where its parts are.
#[derive(Clone, Copy, Debug)]
pub struct RecordAt {
    /// 1 answer, 2 authority, 3 additional.
    pub section: u8,
    name: usize,
    pub kind: u16,
    class: u16,
    pub ttl: u32,
    /// The offset of the TTL.
    pub ttl_at: usize,
    data: usize,
    length: usize,
}

/// The records after the question; `None` if the message is malformed.
fn records(bytes: &[u8], mut at: usize, counts: &[u16; 4]) -> Option<Vec<RecordAt>> {
    let mut records = Vec::new();
    for section in 1..4u8 {
        for _ in 0..counts[usize::from(section)] {
            let name = at;
            let fixed = skip_name(bytes, at)?;
            let (kind, class) = (word(bytes, fixed)?, word(bytes, fixed + 2)?);
            let ttl = u32::from(word(bytes, fixed + 4)?) << 16 | u32::from(word(bytes, fixed + 6)?);
            let length = usize::from(word(bytes, fixed + 8)?);
            let data = fixed + 10;
            bytes.get(data..data + length)?;
            records.push(RecordAt { section, name, kind, class, ttl, ttl_at: fixed + 4, data, length });
            at = data + length;
        }
    }
    Some(records)
}

fn find_opt(bytes: &[u8], at: usize, counts: &[u16; 4]) -> Option<Option<Edns>> {
    if counts[1..] == [0, 0, 0] {
        return Some(None);
    }
    let records = records(bytes, at, counts)?;
    let mut opts = records.iter().filter(|r| r.kind == kind::OPT);
    let first = opts.next();
    // Two are malformed. Source: RFC 6891 section 6.1.1.
    if opts.next().is_some() {
        return None;
    }
    Some(first.map(|r| Edns { payload: r.class, version: (r.ttl >> 16) as u8, dnssec: r.ttl & 0x8000 != 0 }))
}

impl Query {
    /// A query of our own.
    pub fn new(id: u16, name: &str, kind: u16) -> Option<Self> {
        let mut question = Vec::new();
        put_name(&mut question, name)?;
        question.extend(kind.to_be_bytes());
        question.extend(CLASS_IN.to_be_bytes());
        let edns = Some(Edns { payload: MAX_UDP, version: 0, dnssec: false });
        Some(Self { id, flags: FLAG_RD, name: name.to_ascii_lowercase(), kind, class: CLASS_IN, question, edns })
    }

    /// The query as it is sent on, with another ID.
    pub fn encode(&self, id: u16) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER + self.question.len() + OPT_LENGTH);
        for word in [id, self.flags & (FLAG_RD | FLAG_CD) | (self.flags & 0x0020), 1, 0, 0, u16::from(self.edns.is_some())] {
            bytes.extend(word.to_be_bytes());
        }
        bytes.extend(&self.question);
        if let Some(edns) = self.edns {
            put_opt(&mut bytes, edns.payload.clamp(512, MAX_UDP), 0, edns.dnssec);
        }
        bytes
    }

    /// The most bytes that an answer over UDP may have.
    pub fn udp_limit(&self) -> usize {
        usize::from(self.edns.map_or(512, |e| e.payload.clamp(512, MAX_UDP)))
    }

    /// What else than the question changes the answer of another server.
    pub fn variant(&self) -> u8 {
        let edns = self.edns.map_or(0, |e| 1 | u8::from(e.dnssec) << 1);
        edns | u8::from(self.flags & FLAG_CD != 0) << 2 | u8::from(self.flags & FLAG_RD != 0) << 3
    }

    /// True if a message is an answer to this question, sent with this ID.
    pub fn is_answered_by(&self, bytes: &[u8], id: u16) -> bool {
        let header = word(bytes, 0) == Some(id) && word(bytes, 2).is_some_and(|f| f & FLAG_QR != 0) && word(bytes, 4) == Some(1);
        header && bytes.get(HEADER..HEADER + self.question.len()).is_some_and(|q| q.eq_ignore_ascii_case(&self.question))
    }

    /// Another server's answer made ours: the client's ID and spelling; cut if it is too long.
    pub fn adopt(&self, mut answer: Vec<u8>, limit: usize) -> Vec<u8> {
        if answer.len() > limit {
            let mut reply = Reply::new(Rcode::NoError);
            reply.truncated = true;
            return reply.encode(self, limit);
        }
        answer[..2].copy_from_slice(&self.id.to_be_bytes());
        answer[HEADER..HEADER + self.question.len()].copy_from_slice(&self.question);
        answer
    }
}

/// The code of an answer's header.
pub fn rcode(answer: &[u8]) -> u8 {
    answer.get(3).map_or(2, |byte| byte & 0x0f)
}

pub fn is_truncated(answer: &[u8]) -> bool {
    word(answer, 2).is_some_and(|flags| flags & FLAG_TC != 0)
}

/// The records of an answer with one question; `None` if it is malformed.
pub fn records_of(answer: &[u8]) -> Option<Vec<RecordAt>> {
    let counts = [word(answer, 4)?, word(answer, 6)?, word(answer, 8)?, word(answer, 10)?];
    if counts[0] != 1 {
        return None;
    }
    records(answer, skip_name(answer, HEADER)? + 4, &counts)
}

/// The smallest time for which a negative answer may be kept: the SOA's own and its last field. Source: RFC 2308 section 5.
pub fn soa_ttl(answer: &[u8], record: &RecordAt) -> Option<u32> {
    let at = (record.data + record.length).checked_sub(4)?;
    let minimum = u32::from(word(answer, at)?) << 16 | u32::from(word(answer, at + 2)?);
    Some(minimum.min(record.ttl))
}

/// The addresses and aliases of an answer, in words of our own.
pub fn answers_of(answer: &[u8]) -> Option<Vec<Record>> {
    let mut found = Vec::new();
    for record in records_of(answer)?.iter().filter(|r| r.section == 1 && r.class == CLASS_IN) {
        let data = answer.get(record.data..record.data + record.length)?;
        let data = match record.kind {
            kind::A => Data::A(<[u8; 4]>::try_from(data).ok()?.into()),
            kind::AAAA => Data::Aaaa(<[u8; 16]>::try_from(data).ok()?.into()),
            kind::CNAME => Data::Cname(read_name(answer, record.data)?),
            _ => continue,
        };
        found.push(Record { name: read_name(answer, record.name)?, ttl: record.ttl, data });
    }
    Some(found)
}

/// The content of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Data {
    A(Ipv4Addr),
    Aaaa(Ipv6Addr),
    Cname(String),
    Ns(String),
    Ptr(String),
    Txt(String),
    Srv { priority: u16, weight: u16, port: u16, target: String },
    Soa { server: String, mailbox: String, serial: u32, refresh: u32, retry: u32, expire: u32, minimum: u32 },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Without a dot at the end.
    pub name: String,
    pub ttl: u32,
    pub data: Data,
}

/// What is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    pub rcode: Rcode,
    pub authoritative: bool,
    pub truncated: bool,
    pub answers: Vec<Record>,
    pub authority: Vec<Record>,
    pub additional: Vec<Record>,
}

/// A reply to a message whose question cannot be repeated.
pub fn refuse(rcode: Rcode, id: u16, flags: u16) -> Vec<u8> {
    let flags = FLAG_QR | (flags & (0x7800 | FLAG_RD)) | (rcode as u16 & 0x0f);
    [id, flags, 0, 0, 0, 0].iter().flat_map(|word| word.to_be_bytes()).collect()
}

impl Reply {
    pub fn new(rcode: Rcode) -> Self {
        Self { rcode, authoritative: false, truncated: false, answers: vec![], authority: vec![], additional: vec![] }
    }

    /// Writes the reply. Answers that do not fit are left out and the reply is marked; what else does not fit is left out.
    pub fn encode(&self, query: &Query, limit: usize) -> Vec<u8> {
        let mut writer = Writer { bytes: Vec::with_capacity(512), names: Vec::with_capacity(8) };
        writer.bytes.resize(HEADER, 0);
        writer.bytes.extend(&query.question);
        writer.remember(&query.name, HEADER);
        let limit = limit - if query.edns.is_some() { OPT_LENGTH } else { 0 };
        let mut truncated = self.truncated;
        let mut counts = [0u16; 3];
        for (section, records) in [&self.answers, &self.authority, &self.additional].into_iter().enumerate() {
            for record in records {
                if !writer.record(record, limit) {
                    truncated |= section == 0;
                    break;
                }
                counts[section] += 1;
            }
        }
        let mut flags = FLAG_QR | FLAG_RA | (query.flags & (FLAG_RD | FLAG_CD)) | (self.rcode as u16 & 0x0f);
        flags |= if self.authoritative { FLAG_AA } else { 0 } | if truncated { FLAG_TC } else { 0 };
        let mut bytes = writer.bytes;
        if query.edns.is_some() {
            put_opt(&mut bytes, MAX_UDP, (self.rcode as u16 >> 4) as u8, false);
            counts[2] += 1;
        }
        for (n, word) in [query.id, flags, 1, counts[0], counts[1], counts[2]].into_iter().enumerate() {
            bytes[n * 2..n * 2 + 2].copy_from_slice(&word.to_be_bytes());
        }
        bytes
    }
}

fn put_opt(bytes: &mut Vec<u8>, payload: u16, extended_rcode: u8, dnssec: bool) {
    bytes.push(0);
    bytes.extend(kind::OPT.to_be_bytes());
    bytes.extend(payload.to_be_bytes());
    bytes.extend([extended_rcode, 0, if dnssec { 0x80 } else { 0 }, 0, 0, 0]);
}

/// Writes a name in full; `None` if it is no valid name.
fn put_name(bytes: &mut Vec<u8>, name: &str) -> Option<()> {
    let start = bytes.len();
    for label in name.split('.').filter(|_| !name.is_empty()) {
        put_label(bytes, label)?;
    }
    bytes.push(0);
    (bytes.len() - start <= 255).then_some(())
}

fn put_label(bytes: &mut Vec<u8>, label: &str) -> Option<()> {
    let at = bytes.len();
    bytes.push(0);
    let mut rest = label.as_bytes();
    while let Some((byte, tail)) = rest.split_first() {
        if *byte == b'\\' {
            let digits = std::str::from_utf8(tail.get(..3)?).ok()?;
            bytes.push(digits.parse().ok()?);
            rest = &tail[3..];
        } else {
            bytes.push(*byte);
            rest = tail;
        }
    }
    let length = bytes.len() - at - 1;
    bytes[at] = u8::try_from(length).ok().filter(|n| (1..=63).contains(n))?;
    Some(())
}

struct Writer {
    bytes: Vec<u8>,
    /// Suffixes that were written, and where.
    names: Vec<(String, u16)>,
}

impl Writer {
    /// False, and nothing written, if it does not fit.
    fn record(&mut self, record: &Record, limit: usize) -> bool {
        let (start, known) = (self.bytes.len(), self.names.len());
        if self.put(record).is_some() && self.bytes.len() <= limit {
            return true;
        }
        self.bytes.truncate(start);
        self.names.truncate(known);
        false
    }

    fn put(&mut self, record: &Record) -> Option<()> {
        self.name(&record.name)?;
        let kind = match &record.data {
            Data::A(_) => kind::A,
            Data::Aaaa(_) => kind::AAAA,
            Data::Cname(_) => kind::CNAME,
            Data::Ns(_) => kind::NS,
            Data::Ptr(_) => kind::PTR,
            Data::Txt(_) => kind::TXT,
            Data::Srv { .. } => kind::SRV,
            Data::Soa { .. } => kind::SOA,
        };
        self.bytes.extend(kind.to_be_bytes());
        self.bytes.extend(CLASS_IN.to_be_bytes());
        self.bytes.extend(record.ttl.to_be_bytes());
        let at = self.bytes.len();
        self.bytes.extend([0, 0]);
        self.data(&record.data)?;
        let length = u16::try_from(self.bytes.len() - at - 2).ok()?;
        self.bytes[at..at + 2].copy_from_slice(&length.to_be_bytes());
        Some(())
    }

    fn data(&mut self, data: &Data) -> Option<()> {
        match data {
            Data::A(ip) => self.bytes.extend(ip.octets()),
            Data::Aaaa(ip) => self.bytes.extend(ip.octets()),
            Data::Cname(name) | Data::Ns(name) | Data::Ptr(name) => self.name(name)?,
            Data::Txt(text) => {
                self.bytes.push(u8::try_from(text.len()).ok()?);
                self.bytes.extend(text.as_bytes());
            }
            Data::Srv { priority, weight, port, target } => {
                [priority, weight, port].iter().for_each(|word| self.bytes.extend(word.to_be_bytes()));
                // Not compressed: RFC 2782.
                put_name(&mut self.bytes, target)?;
            }
            Data::Soa { server, mailbox, serial, refresh, retry, expire, minimum } => {
                self.name(server)?;
                self.name(mailbox)?;
                [serial, refresh, retry, expire, minimum].iter().for_each(|word| self.bytes.extend(word.to_be_bytes()));
            }
        }
        Some(())
    }

    /// A name, by a pointer as far as a part of it was written before.
    fn name(&mut self, name: &str) -> Option<()> {
        let start = self.bytes.len();
        let mut rest = name;
        while !rest.is_empty() {
            if let Some((_, at)) = self.names.iter().find(|(known, _)| known.eq_ignore_ascii_case(rest)) {
                self.bytes.extend((0xc000 | at).to_be_bytes());
                return Some(());
            }
            if let Ok(at) = u16::try_from(self.bytes.len())
                && at < 0x4000
            {
                self.names.push((rest.to_owned(), at));
            }
            let (label, tail) = rest.split_once('.').unwrap_or((rest, ""));
            put_label(&mut self.bytes, label)?;
            rest = tail;
        }
        self.bytes.push(0);
        (self.bytes.len() - start <= 255).then_some(())
    }

    /// Notes a name that is there already, and its suffixes.
    fn remember(&mut self, name: &str, mut at: usize) {
        let mut rest = name;
        while !rest.is_empty() {
            self.names.push((rest.to_owned(), at as u16));
            let (label, tail) = rest.split_once('.').unwrap_or((rest, ""));
            // An escaped byte is four characters.
            at += 1 + label.len() - 3 * label.matches('\\').count();
            rest = tail;
        }
    }
}

#[cfg(test)]
mod tests;
