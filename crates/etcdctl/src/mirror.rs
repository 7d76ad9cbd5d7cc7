//! `make-mirror`: copies all keys of a prefix into another cluster, then every change, in the order and the grouping of the revisions. Leases stay behind, as
//! in upstream.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use clap::{ArgMatches, Command};
use etcd::pb::{self, WatchCreateRequest, mvccpb::event::EventType, request_op};

use crate::connection::{self, Channel};
use crate::exit::{Failure, Outcome};
use crate::flags::{command, int, is_on, number, string, switch, switch_from, text, texts};
use crate::follow::{Follow, cancel_text};
use crate::global::{Global, TlsFlags};
use crate::printer::say_line;
use crate::{Ctl, keys, kv, terminal};

/// Keys in one read of the source.
const PAGE: i64 = 1000;
const REPORT: Duration = Duration::from_secs(30);

pub fn make_mirror_command() -> Command {
    command("make-mirror", "make-mirror [options] <destination>", "Makes a mirror at the destination etcd cluster").args([
        text("prefix", "", "Key-value prefix to mirror"),
        number("rev", "0", "Specify the kv revision to start to mirror"),
        number("max-txn-ops", "128", "Maximum number of operations permitted in a transaction during syncing updates."),
        text("dest-prefix", "", "destination prefix to mirror a prefix to a different prefix in the destination cluster"),
        switch("no-dest-prefix", "mirror key-values to the root of the destination cluster"),
        text("dest-cert", "", "Identify secure client using this TLS certificate file for the destination cluster"),
        text("dest-key", "", "Identify secure client using this TLS key file"),
        text("dest-cacert", "", "Verify certificates of TLS enabled secure servers using this CA bundle"),
        switch_from("dest-insecure-transport", "true", "Disable transport security for client connections"),
        text("dest-user", "", "Destination username[:password] for authentication (prompt if password is not supplied)"),
        text(
            "dest-password",
            "",
            "Destination password for authentication (if this option is used, --user option shouldn't include password)",
        ),
    ])
}

/// From which keys to which.
struct Prefixes {
    from: Vec<u8>,
    to: Vec<u8>,
}

impl Prefixes {
    fn moved(&self, key: &[u8]) -> Bytes {
        let rest = key.strip_prefix(self.from.as_slice()).unwrap_or(key);
        [self.to.as_slice(), rest].concat().into()
    }
}

pub async fn make_mirror(ctl: &Ctl, matches: &ArgMatches) -> Outcome {
    let args = texts(matches);
    let [destination] = &args[..] else { return Err(Failure::bad_args("make-mirror takes one destination argument")) };
    let (from, to) = (string(matches, "prefix"), string(matches, "dest-prefix"));
    let to = match (is_on(matches, "no-dest-prefix"), to.is_empty()) {
        (true, false) => {
            return Err(Failure::bad_args("`--dest-prefix` and `--no-dest-prefix` cannot be set at the same time, choose one"));
        }
        (false, true) => from.clone(),
        _ => to,
    };
    let prefixes = Prefixes { from: from.into_bytes(), to: to.into_bytes() };
    let target = destination_of(ctl, matches, destination).await?;
    let source = ctl.connect().await?;
    let copied = Arc::new(AtomicI64::new(0));
    let shown = copied.clone();
    ctl.tasks.spawn("report the mirror", async move {
        loop {
            tokio::time::sleep(REPORT).await;
            say_line(&shown.load(Ordering::Relaxed).to_string());
        }
    });
    let mirror =
        Mirror { ctl, source, target, prefixes, copied, max_txn_ops: usize::try_from(int(matches, "max-txn-ops").max(1)).unwrap_or(1) };
    let revision = match int(matches, "rev") {
        0 => mirror.copy_all().await? + 1,
        given if given < 0 => return Err(Failure::bad_args("bad revision number: it cannot be negative")),
        given => given,
    };
    mirror.copy_changes(revision).await
}

async fn destination_of(ctl: &Ctl, matches: &ArgMatches, destination: &str) -> Outcome<Channel> {
    let (user, mut password) = (string(matches, "dest-user"), string(matches, "dest-password"));
    if !user.is_empty() && password.is_empty() && !user.contains(':') {
        password = terminal::ask_password("Destination Password: ")?;
    }
    let tls = TlsFlags {
        cert: string(matches, "dest-cert"),
        key: string(matches, "dest-key"),
        cacert: string(matches, "dest-cacert"),
        insecure_transport: is_on(matches, "dest-insecure-transport"),
        skip_verify: false,
    };
    let global = Global { tls, user, password, discovery_srv: String::new(), ..ctl.global.clone() };
    connection::connect(&global, &[destination.to_owned()], &ctl.tasks).await
}

struct Mirror<'a> {
    ctl: &'a Ctl,
    source: Channel,
    target: Channel,
    prefixes: Prefixes,
    copied: Arc<AtomicI64>,
    max_txn_ops: usize,
}

impl Mirror<'_> {
    fn range(&self) -> (Vec<u8>, Vec<u8>) {
        keys::range(&self.prefixes.from, true, false)
    }

    /// All keys as they are at one revision, which is returned.
    async fn copy_all(&self) -> Outcome<i64> {
        let (mut key, end) = self.range();
        let mut revision = 0;
        loop {
            let request = pb::RangeRequest { key: key.into(), range_end: end.clone().into(), limit: PAGE, revision, ..Default::default() };
            let page = kv::range(self.ctl, &self.source, request).await?;
            if revision == 0 {
                revision = page.header.map_or(0, |header| header.revision);
            }
            for pair in &page.kvs {
                let request = pb::PutRequest { key: self.prefixes.moved(&pair.key), value: pair.value.clone(), ..Default::default() };
                self.ctl.within(self.target.kv().put(request)).await?;
                self.copied.fetch_add(1, Ordering::Relaxed);
            }
            match page.kvs.last() {
                Some(last) if page.more => key = [last.key.as_ref(), b"\0"].concat(),
                _ => return Ok(revision),
            }
        }
    }

    /// Changes of one revision go into one transaction, as long as they fit. Ends only with an error.
    async fn copy_changes(&self, start_revision: i64) -> Outcome {
        let (key, range_end) = self.range();
        let request = WatchCreateRequest { key: key.into(), range_end: range_end.into(), start_revision, ..Default::default() };
        let mut follow = Follow::new(self.source.clone(), request);
        loop {
            let answer = follow.next().await?;
            if answer.canceled || answer.compact_revision != 0 {
                return Err(Failure::error(cancel_text(&answer)));
            }
            let (mut last, mut changes) = (0, Vec::new());
            for event in answer.events {
                let kind = event.r#type();
                let Some(pair) = event.kv else { continue };
                if (last != 0 && pair.mod_revision > last) || changes.len() == self.max_txn_ops {
                    self.write(std::mem::take(&mut changes)).await?;
                }
                last = pair.mod_revision;
                let key = self.prefixes.moved(&pair.key);
                let request = match kind {
                    EventType::Put => request_op::Request::RequestPut(pb::PutRequest { key, value: pair.value, ..Default::default() }),
                    EventType::Delete => request_op::Request::RequestDeleteRange(pb::DeleteRangeRequest { key, ..Default::default() }),
                };
                changes.push(pb::RequestOp { request: Some(request) });
                self.copied.fetch_add(1, Ordering::Relaxed);
            }
            self.write(changes).await?;
        }
    }

    async fn write(&self, success: Vec<pb::RequestOp>) -> Outcome {
        if success.is_empty() {
            return Ok(());
        }
        let request = pb::TxnRequest { success, ..Default::default() };
        self.ctl.within(self.target.kv().txn(request)).await.map(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_move_to_the_other_prefix() {
        let check = |from: &str, to: &str, key: &str, expected: &str| {
            let prefixes = Prefixes { from: from.into(), to: to.into() };
            assert_eq!(prefixes.moved(key.as_bytes()), expected);
        };
        check("", "", "a", "a");
        check("/a/", "/b/", "/a/x", "/b/x");
        check("/a/", "", "/a/x", "x");
        check("", "/b/", "a", "/b/a");
    }
}
