//! The same commands typed into Debian's etcdctl 3.4 and into ours, each against a fresh server with the same addresses, so that even ids and revisions are
//! the same: standard output, the error and the exit code must be equal in every format. Where 3.5 differs from 3.4, `KNOWN` says how and why.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::process::Stdio;

use common::{Addresses, Kind};
use regex::Regex;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

const FORMATS: [&str; 5] = ["simple", "json", "fields", "table", "protobuf"];
/// For our server, which changes nothing about how answers look.
const SOME_FORMATS: [&str; 2] = ["simple", "json"];

/// A command, and what it reads. `$LEASE` is the lease that was granted last.
type Line = (&'static str, &'static str);

const KEYS: &[Line] = &[
    ("put foo bar", ""),
    ("put foo baz --prev-kv", ""),
    ("put foo1", "from\nstandard input"),
    ("put bin", "\u{1}<&>\"é\\\n"),
    ("put foo2 -- -5", ""),
    ("put foo --ignore-value", ""),
    ("get foo", ""),
    ("get foo --hex", ""),
    ("get bin", ""),
    ("get nothing", ""),
    ("get --prefix foo", ""),
    ("get --prefix foo --limit=1", ""),
    ("get --prefix foo --order=DESCEND --sort-by=MODIFY --keys-only", ""),
    ("get foo foo2", ""),
    ("get --from-key foo1 --consistency=s", ""),
    ("get foo --rev=2", ""),
    ("get foo --print-value-only", ""),
    ("txn", "mod(\"foo\") > \"0\"\n\nput foo x\nget foo\ndel foo1 --prev-kv\n\nput foo y\n\n"),
    ("txn -i", "val(\"foo\") = \"other\"\n\nget foo\n\nput foo \"a b\"\nget foo --prefix\n\n"),
    ("txn", "\n\n\n"),
    ("del foo2 --prev-kv", ""),
    ("del nothing", ""),
    ("del --prefix foo", ""),
    ("compaction 3", ""),
    ("get foo --rev=2", ""),
];

const LEASES: &[Line] = &[
    ("lease grant 600", ""),
    ("lease timetolive $LEASE", ""),
    ("put leased v --lease=$LEASE", ""),
    ("put leased w --ignore-lease", ""),
    ("lease timetolive $LEASE --keys", ""),
    ("lease keep-alive --once $LEASE", ""),
    ("lease list", ""),
    ("lease revoke $LEASE", ""),
    ("lease revoke $LEASE", ""),
    ("lease timetolive $LEASE", ""),
    ("lease keep-alive --once $LEASE", ""),
    ("lease keep-alive $LEASE", ""),
];

const OPERATIONS: &[Line] = &[
    ("member list", ""),
    ("member remove 1", ""),
    ("endpoint status", ""),
    ("endpoint status --cluster", ""),
    ("endpoint health", ""),
    ("endpoint hashkv", ""),
    ("alarm list", ""),
    ("alarm disarm", ""),
    ("defrag", ""),
    ("auth disable", ""),
    ("auth enable", ""),
    ("move-leader 1", ""),
];

const USERS: &[Line] = &[
    ("user add u:secret", ""),
    ("user add v --no-password", ""),
    ("user add w --interactive=false", "secret\n"),
    ("user add :x", ""),
    ("role add r", ""),
    ("role add r", ""),
    ("role grant-permission r readwrite a b", ""),
    ("role grant-permission r read --prefix p", ""),
    ("role grant-permission r write --from-key q", ""),
    ("role grant-permission r write x", ""),
    ("role get r", ""),
    ("user grant-role u r", ""),
    ("user get u", ""),
    ("user get u --detail", ""),
    ("user list", ""),
    ("role list", ""),
    ("user passwd u --interactive=false", "other\n"),
    ("user revoke-role u r", ""),
    ("user revoke-role u r", ""),
    ("role revoke-permission r a b", ""),
    ("role revoke-permission r --prefix p", ""),
    ("role revoke-permission r --from-key q", ""),
    ("role revoke-permission r x", ""),
    ("role revoke-permission r x", ""),
    ("user delete u", ""),
    ("user delete u", ""),
    ("role delete r", ""),
    ("role get r", ""),
];

/// Wrong command lines and wrong input. They are the same in every format.
const MISTAKES: &[Line] = &[
    ("get", ""),
    ("get a b --prefix", ""),
    ("get a --prefix --from-key", ""),
    ("get a --order=up", ""),
    ("get a --sort-by=up", ""),
    ("get a --consistency=x", ""),
    ("get a --limit x", ""),
    ("get a --limit", ""),
    ("get a --odd", ""),
    ("get a -o", ""),
    ("get a --prefix=x", ""),
    ("get a --rev=99", ""),
    ("get a -w odd", ""),
    ("get a --dial-timeout x", ""),
    ("get a --cert=/nope", ""),
    ("get a --cacert=/nope", ""),
    ("get a --cacert=", ""),
    ("odd", ""),
    ("put", ""),
    ("put a", ""),
    ("put a -1", ""),
    ("put a b --ignore-value", ""),
    ("put a b --lease=zz", ""),
    ("put a b --lease=77", ""),
    ("del", ""),
    ("del a b --prefix", ""),
    ("txn x", ""),
    ("txn", ""),
    ("txn", "odd(\"a\") = \"1\"\n"),
    ("txn", "mod(a) = \"1\"\n"),
    ("txn", "mod(\"a\") = \"x\"\n"),
    ("txn", "\nget\n"),
    ("txn", "\nfly away\n"),
    ("watch", ""),
    ("watch a b --prefix", ""),
    ("watch a --", ""),
    ("compaction", ""),
    ("compaction x", ""),
    ("compaction 99", ""),
    ("lease grant", ""),
    ("lease grant x", ""),
    ("lease revoke", ""),
    ("lease revoke x", ""),
    ("lease timetolive", ""),
    ("lease keep-alive x", ""),
    ("member add", ""),
    ("member add a b", ""),
    ("member add a", ""),
    ("member remove", ""),
    ("member remove x", ""),
    ("member update 1", ""),
    ("member promote x", ""),
    ("role add", ""),
    ("role list x", ""),
    ("role grant-permission a", ""),
    ("role grant-permission a odd b", ""),
    ("role grant-permission a read b c --prefix", ""),
    ("role revoke-permission a", ""),
    ("user add", ""),
    ("user get nobody", ""),
    ("user grant-role a", ""),
    ("lock", ""),
    ("lock name false", ""),
    ("elect", ""),
    ("elect a", ""),
    ("elect a b -l", ""),
    ("move-leader", ""),
    ("move-leader x", ""),
    ("snapshot save", ""),
    ("check perf --load=odd", ""),
    ("make-mirror", ""),
];

/// What differs on purpose: a part of the command, the format, what 3.5 changed, and 3.4's answer as 3.5 gives it.
struct Difference {
    command: &'static str,
    format: &'static str,
    _reason: &'static str,
    apply: fn(Answer) -> Answer,
}

const KNOWN: &[Difference] = &[
    Difference {
        command: "txn",
        format: "json",
        _reason: "3.5's generated code names the parts of a oneof in JSON",
        apply: |mut answer| {
            let text = String::from_utf8(answer.out).unwrap();
            let text = text.replace("ResponsePut", "response_put").replace("ResponseRange", "response_range");
            answer.out = text.replace("ResponseDeleteRange", "response_delete_range").into_bytes();
            answer
        },
    },
    Difference {
        command: "endpoint health",
        format: "simple",
        _reason: "3.4 tells also what is well on standard error",
        apply: |mut answer| {
            answer.out = std::mem::take(&mut answer.err).into_bytes();
            answer
        },
    },
    Difference {
        command: "alarm",
        format: "fields",
        _reason: "3.4 breaks down where an answer has no header",
        apply: |answer| if answer.code == Some(2) { Answer { out: Vec::new(), err: String::new(), code: Some(0) } } else { answer },
    },
    Difference {
        command: "odd",
        format: "simple",
        _reason: "the advice is printed once",
        apply: |mut answer| {
            answer.err = answer.err.lines().take(2).map(|line| format!("{line}\n")).collect();
            answer
        },
    },
];

/// pflag's complaints come twice from 3.4, and the usage that goes with them names 3.4's flags.
fn is_usage(answer: &Answer) -> bool {
    String::from_utf8_lossy(&answer.out).starts_with("NAME:")
}

#[derive(Clone, Debug, PartialEq)]
struct Answer {
    out: Vec<u8>,
    err: String,
    code: Option<i32>,
}

/// One of the two tools against one server.
struct Tool {
    program: &'static str,
    endpoint: String,
    lease: String,
}

impl Tool {
    async fn run(&mut self, line: Line, format: &str) -> Answer {
        let words = line.0.replace("$LEASE", &self.lease);
        let mut command = Command::new(self.program);
        command.env_clear().env("ETCDCTL_API", "3").env("PATH", std::env::var_os("PATH").unwrap());
        command.args(["--endpoints", &self.endpoint, "-w", format]).args(words.split(' ')).kill_on_drop(true);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("etcdctl must be installed: apt-get install etcd-client");
        // A program that has ended already does not read.
        let _ = child.stdin.take().unwrap().write_all(line.1.as_bytes()).await;
        let output = child.wait_with_output().await.unwrap();
        if words.starts_with("lease grant") {
            self.lease = self.granted(&output.stdout, format).await;
        }
        let err = String::from_utf8_lossy(&output.stderr).into_owned();
        // gRPC's own notes, which 3.4 prints as JSON.
        let err = err.lines().filter(|line| !line.starts_with('{') && !line.is_empty()).map(|line| format!("{line}\n"));
        let err: String = err.collect();
        Answer { out: self.steady(output.stdout), err: self.steady_text(&err), code: output.status.code() }
    }

    /// The lease that was just granted; the formats that do not tell it leave it in the list.
    async fn granted(&self, out: &[u8], format: &str) -> String {
        let list = |program: &'static str| {
            let mut command = Command::new(program);
            command.env("ETCDCTL_API", "3").args(["--endpoints", &self.endpoint, "lease", "list"]);
            command
        };
        let text = match format {
            "simple" => String::from_utf8_lossy(out).into_owned(),
            _ => String::from_utf8(list(self.program).output().await.unwrap().stdout).unwrap(),
        };
        let id = Regex::new("[0-9a-f]{16}").unwrap().find(&text).map(|id| id.as_str().to_owned());
        id.unwrap_or_default()
    }

    /// Without what is never the same twice: times, lease ids, the length of the log.
    fn steady(&self, out: Vec<u8>) -> Vec<u8> {
        match String::from_utf8(out) {
            Ok(text) => self.steady_text(&text).into_bytes(),
            Err(binary) => binary.into_bytes(),
        }
    }

    fn steady_text(&self, text: &str) -> String {
        let mut text = text.to_owned();
        if let Ok(id) = i64::from_str_radix(&self.lease, 16) {
            text = text.replace(&self.lease, "LEASE").replace(&id.to_string(), "LEASE");
        }
        if text.contains("TOOK") {
            // A table around a time: as wide as that.
            text = Regex::new("[- ]+|[0-9.]+(µs|ms|s) ").unwrap().replace_all(&text, " ").into_owned();
        }
        for (pattern, replacement) in [
            (r"took = \S+", "took"),
            (r#""took":"[^"]*""#, "took"),
            (r#""Took" : .*"#, "took"),
            (r#"remaining\(\d+s\)|"ttl":\d+|"TTL" : \d+"#, "remaining"),
            (r#""(raftIndex|raftAppliedIndex|dbSize|dbSizeInUse|hash)":\d+"#, "$1"),
            (r#""(RaftIndex|RaftAppliedIndex|DBSize|Hash)" : \d+"#, "$1"),
            (r"\d+ kB, true, false, \d+, \d+, \d+", "status"),
            (r"\d+ kB( \| +(true|false)){2}( \| +\d+){3}", "status"),
        ] {
            text = Regex::new(pattern).unwrap().replace_all(&text, replacement).into_owned();
        }
        text
    }
}

/// All answers of one tool, from a server that is new.
async fn answers(program: &'static str, addresses: &Addresses, kind: &Kind, script: &[Line], format: &str) -> Vec<Answer> {
    let server = addresses.start(kind).await;
    let mut tool = Tool { program, endpoint: addresses.client.clone(), lease: "none".into() };
    // It waits by itself until the server answers.
    assert_eq!(tool.run(("get ready --command-timeout=60s", ""), "simple").await.code, Some(0));
    let mut found = Vec::new();
    for line in script {
        found.push(tool.run(*line, format).await);
    }
    server.stop().await;
    found
}

async fn compare(kind: Kind, script: &[Line], formats: &[&str]) {
    let addresses = Addresses::free();
    let mut wrong = Vec::new();
    for format in formats {
        let real = answers("etcdctl", &addresses, &kind, script, format).await;
        let ours = answers(env!("CARGO_BIN_EXE_etcdctl"), &addresses, &kind, script, format).await;
        for ((line, mut expected), mut found) in script.iter().zip(real).zip(ours) {
            for difference in KNOWN.iter().filter(|known| line.0.starts_with(known.command) && known.format == *format) {
                expected = (difference.apply)(expected);
            }
            if is_usage(&expected) && is_usage(&found) {
                (expected.out, found.out) = (Vec::new(), Vec::new());
                expected.err = expected.err.lines().next().map(|line| format!("{line}\n")).unwrap_or_default();
            }
            if expected != found {
                let show = |answer: &Answer| format!("{:?} {:?} {:?}", answer.code, String::from_utf8_lossy(&answer.out), answer.err);
                wrong.push(format!("{} -w {format}\n  expected {}\n  found    {}", line.0, show(&expected), show(&found)));
            }
        }
    }
    assert!(wrong.is_empty(), "{} differences:\n{}", wrong.len(), wrong.join("\n"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_on_etcd() {
    compare(Kind::Real, KEYS, &FORMATS).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_on_our_server() {
    compare(Kind::Ours, KEYS, &SOME_FORMATS).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leases_on_etcd() {
    compare(Kind::Real, LEASES, &FORMATS).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leases_on_our_server() {
    compare(Kind::Ours, LEASES, &SOME_FORMATS).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn operations_on_etcd() {
    compare(Kind::Real, OPERATIONS, &FORMATS).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn operations_on_our_server() {
    compare(Kind::Ours, OPERATIONS, &SOME_FORMATS).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn users_on_etcd() {
    compare(Kind::Real, USERS, &FORMATS).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn users_on_our_server() {
    compare(Kind::Ours, USERS, &SOME_FORMATS).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mistakes_on_etcd() {
    compare(Kind::Real, MISTAKES, &["simple"]).await;
}
