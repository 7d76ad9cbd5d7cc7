//! `watch`: events of keys until somebody stops it, also several watches by lines from standard input, also with a program to run for each event. Goes on
//! where it was when a connection breaks; never shows an event twice.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::time::Duration;

use clap::{Arg, ArgMatches, Command, value_parser};
use etcd::pb::watch_request::RequestUnion;
use etcd::pb::{self, WatchCreateRequest};
use tokio::sync::mpsc;
use tonic::metadata::MetadataValue;

use crate::connection::Channel;
use crate::exit::{self, Failure, Outcome};
use crate::flags::{command, int, is_on, number, switch, words};
use crate::printer::{Printer, messages, say_line};
use crate::{Ctl, go, keys, line};

const ARGUMENTS: &str = "bad number of arguments";
const RECONNECT: Duration = Duration::from_millis(100);
const EXEC: &str = "exec";

pub fn watch_command() -> Command {
    let usage = "watch [options] [key or prefix] [range_end] [--] [exec-command arg1 arg2 ...]";
    command("watch", usage, "Watches events stream on keys or prefixes").args([
        switch("interactive", "Interactive mode").short('i'),
        switch("prefix", "Watch on a prefix if prefix is set"),
        number("rev", "0", "Revision to start watching"),
        switch("prev-kv", "get the previous key-value pair before the event happens"),
        switch("progress-notify", "get periodic watch progress notification from server"),
        Arg::new(EXEC).last(true).num_args(0..).value_parser(value_parser!(OsString)).hide(true),
    ])
}

/// The key and the end of a range that stand in the environment.
#[derive(Clone, Default)]
struct FromEnvironment {
    key: Option<Vec<u8>>,
    end: Option<Vec<u8>>,
}

impl FromEnvironment {
    fn read() -> Outcome<Self> {
        let variable = |name| std::env::var_os(name).map(OsString::into_vec).filter(|value| !value.is_empty());
        let found = Self { key: variable("ETCDCTL_WATCH_KEY"), end: variable("ETCDCTL_WATCH_RANGE_END") };
        if let (None, Some(end)) = (&found.key, &found.end) {
            let text = format!("ETCDCTL_WATCH_KEY is empty but got ETCDCTL_WATCH_RANGE_END={}", go::quote(end));
            return Err(Failure::bad_args(text));
        }
        Ok(found)
    }
}

/// One watch: what is asked, and the program that runs for each event.
#[derive(Clone, Debug, PartialEq)]
struct Wanted {
    request: WatchCreateRequest,
    exec: Vec<OsString>,
}

pub async fn watch(ctl: &Ctl, matches: &ArgMatches, ends_with_separator: bool) -> Outcome {
    let environment = FromEnvironment::read()?;
    if is_on(matches, "interactive") {
        return interactive(ctl, &environment).await;
    }
    let wanted = wanted(matches, &environment, ends_with_separator)?;
    let (sender, orders) = mpsc::channel(1);
    let watches = Watches { printer: ctl.printer, channel: ctl.connect().await?, active: BTreeMap::new(), next_id: 1 };
    if sender.send(Order::Watch(wanted)).await.is_err() {
        return Err(Failure::error(ARGUMENTS));
    }
    // The only watch has ended when no orders are left.
    drop(sender);
    watches.run(orders).await?;
    Err(Failure::new(exit::INTERRUPTED, "watch is canceled by the server"))
}

fn wanted(matches: &ArgMatches, environment: &FromEnvironment, ends_with_separator: bool) -> Outcome<Wanted> {
    let mut args = words(matches);
    let exec: Vec<OsString> = matches.get_many::<OsString>(EXEC).into_iter().flatten().cloned().collect();
    if exec.is_empty() && ends_with_separator {
        return Err(Failure::bad_args("bad number of arguments (found separator --, but no commands)"));
    }
    if let Some(key) = &environment.key {
        if !args.is_empty() {
            return Err(Failure::bad_args("bad number of arguments (found conflicting environment key)"));
        }
        args = std::iter::once(key).chain(&environment.end).cloned().collect();
    }
    let prefix = is_on(matches, "prefix");
    let key = args.first().ok_or_else(|| Failure::bad_args(ARGUMENTS))?;
    let (key, range_end) = match args.get(1) {
        Some(_) if prefix => return Err(Failure::bad_args("`range_end` and `--prefix` are mutually exclusive")),
        Some(end) if args.len() == 2 => (key.clone(), end.clone()),
        _ => keys::range(key, prefix, false),
    };
    let request = WatchCreateRequest {
        key: if key.is_empty() { keys::OPEN_END.into() } else { key.into() },
        range_end: range_end.into(),
        start_revision: int(matches, "rev"),
        prev_kv: is_on(matches, "prev-kv"),
        progress_notify: is_on(matches, "progress-notify"),
        ..Default::default()
    };
    Ok(Wanted { request, exec })
}

enum Order {
    Watch(Wanted),
    Progress,
}

/// Reads `watch ...` and `progress` from standard input, as long as there is any.
async fn interactive(ctl: &Ctl, environment: &FromEnvironment) -> Outcome {
    let (sender, orders) = mpsc::channel(16);
    let watches = Watches { printer: ctl.printer, channel: ctl.connect().await?, active: BTreeMap::new(), next_id: 1 };
    let environment = environment.clone();
    let reader = tokio::task::spawn_blocking(move || read_orders(&environment, &sender));
    tokio::select! {
        ended = reader => ended.map_err(|error| Failure::error(error.to_string()))?,
        ended = watches.run(orders) => ended,
    }
}

fn read_orders(environment: &FromEnvironment, orders: &mpsc::Sender<Order>) -> Outcome {
    for text in std::io::stdin().lines() {
        let text = text.map_err(|error| Failure::new(exit::INVALID_INPUT, format!("error reading watch request line: {error}")))?;
        if let Some(order) = read_order(&text, environment)?
            && orders.blocking_send(order).is_err()
        {
            return Ok(());
        }
    }
    Err(Failure::new(exit::INVALID_INPUT, "error reading watch request line: EOF"))
}

/// `None` for a line that is told to be wrong.
fn read_order(text: &str, environment: &FromEnvironment) -> Outcome<Option<Order>> {
    let words = line::words(text)?;
    match words.first().map(Vec::as_slice) {
        None => {
            eprintln!("Invalid command: {text} (watch and progress supported)");
            Ok(None)
        }
        Some(b"progress") => Ok(Some(Order::Progress)),
        Some(b"watch") if words.len() < 2 && environment.key.is_none() => {
            eprintln!("Invalid command {text} (command type or key is not provided)");
            Ok(None)
        }
        Some(b"watch") => {
            let ends_with_separator = words.last().is_some_and(|word| word == b"--");
            let line = words.into_iter().map(OsString::from_vec);
            let found = watch_command().args_override_self(true).disable_help_flag(true).try_get_matches_from(line);
            let found = found.map_err(|error| Failure::bad_args(crate::usage::describe(&error)))?;
            match wanted(&found, environment, ends_with_separator) {
                Ok(wanted) => Ok(Some(Order::Watch(wanted))),
                Err(failure) if failure.text.contains("mutually exclusive") => {
                    eprintln!("Invalid command {text} ({})", failure.text);
                    Ok(None)
                }
                Err(failure) => Err(failure),
            }
        }
        Some(_) => {
            eprintln!("Invalid command {text} (only support watch)");
            Ok(None)
        }
    }
}

/// All watches of this process, over one stream.
struct Watches {
    printer: Printer,
    channel: Channel,
    /// By the id that they have in the stream; `start_revision` is the next that was not seen.
    active: BTreeMap<i64, Wanted>,
    next_id: i64,
}

impl Watches {
    /// Until no watch is left and no more can come.
    async fn run(mut self, mut orders: mpsc::Receiver<Order>) -> Outcome {
        let mut open = true;
        loop {
            if self.active.is_empty() {
                match orders.recv().await {
                    Some(order) => drop(self.take(order)),
                    None => return Ok(()),
                }
                continue;
            }
            match self.stream(&mut orders, &mut open).await {
                Ok(()) => {}
                Err(status) if is_passing(&status) => tokio::time::sleep(RECONNECT).await,
                Err(status) => return Err(status.into()),
            }
        }
    }

    /// The request for an order, which counts from now on.
    fn take(&mut self, order: Order) -> pb::WatchRequest {
        let union = match order {
            Order::Progress => RequestUnion::ProgressRequest(pb::WatchProgressRequest {}),
            Order::Watch(mut wanted) => {
                wanted.request.watch_id = self.next_id;
                self.next_id += 1;
                let request = wanted.request.clone();
                self.active.insert(request.watch_id, wanted);
                RequestUnion::CreateRequest(request)
            }
        };
        pb::WatchRequest { request_union: Some(union) }
    }

    /// One stream, until it breaks or no watch is left.
    async fn stream(&mut self, orders: &mut mpsc::Receiver<Order>, open: &mut bool) -> Result<(), tonic::Status> {
        let (requests, queue) = mpsc::channel(self.active.len() + 16);
        for wanted in self.active.values() {
            let union = RequestUnion::CreateRequest(wanted.request.clone());
            // There is room for all of them.
            requests
                .try_send(pb::WatchRequest { request_union: Some(union) })
                .map_err(|error| tonic::Status::internal(error.to_string()))?;
        }
        let mut request = tonic::Request::new(tokio_stream::wrappers::ReceiverStream::new(queue));
        request.metadata_mut().insert("hasleader", MetadataValue::from_static("true"));
        let mut answers = self.channel.watch().watch(request).await?.into_inner();
        while !self.active.is_empty() {
            tokio::select! {
                answer = answers.message() => match answer? {
                    Some(answer) => self.show(answer).await.map_err(|failure| tonic::Status::internal(failure.text))?,
                    None => return Err(tonic::Status::unavailable("the server has ended the stream of watches")),
                },
                order = orders.recv(), if *open => match order {
                    Some(order) => {
                        let request = self.take(order);
                        if requests.send(request).await.is_err() {
                            return Err(tonic::Status::unavailable("the stream of watches has ended"));
                        }
                    }
                    None => *open = false,
                },
            }
        }
        Ok(())
    }

    async fn show(&mut self, answer: pb::WatchResponse) -> Outcome {
        let revision = answer.header.as_ref().map_or(0, |header| header.revision);
        if answer.canceled || answer.compact_revision != 0 {
            eprintln!("watch was canceled ({})", cancel_text(&answer));
            self.active.remove(&answer.watch_id);
            return self.printer.print(&answer);
        }
        let Some(wanted) = self.active.get_mut(&answer.watch_id) else {
            // Progress that was asked for belongs to no watch.
            if answer.events.is_empty() && !answer.created {
                say_line(&format!("progress notify: {revision}"));
            }
            return Ok(());
        };
        if answer.created {
            if wanted.request.start_revision == 0 {
                wanted.request.start_revision = revision + 1;
            }
            return Ok(());
        }
        let last = answer.events.iter().filter_map(|event| event.kv.as_ref()).map(|pair| pair.mod_revision).max();
        wanted.request.start_revision = last.unwrap_or(revision) + 1;
        if answer.events.is_empty() {
            say_line(&format!("progress notify: {revision}"));
        }
        self.printer.print(&answer)?;
        if !wanted.exec.is_empty() {
            for event in &answer.events {
                run_for(&wanted.exec, revision, event).await?;
            }
        }
        Ok(())
    }
}

fn is_passing(status: &tonic::Status) -> bool {
    status.code() == tonic::Code::Unavailable || std::error::Error::source(status).is_some()
}

fn cancel_text(answer: &pb::WatchResponse) -> String {
    match (answer.compact_revision, answer.cancel_reason.as_str()) {
        (1.., _) => "etcdserver: mvcc: required revision has been compacted".into(),
        (_, "") => "etcdserver: mvcc: required revision is a future revision".into(),
        (_, reason) => format!("rpc error: code = Unknown desc = {reason}"),
    }
}

/// Runs the program for an event and waits for it. Its failure ends this process, as in upstream.
async fn run_for(exec: &[OsString], revision: i64, event: &pb::Event) -> Outcome {
    let (key, value) = event.kv.as_ref().map(|pair| (pair.key.clone(), pair.value.clone())).unwrap_or_default();
    let mut command = tokio::process::Command::new(&exec[0]);
    command.args(&exec[1..]);
    command.env("ETCD_WATCH_REVISION", revision.to_string());
    command.env("ETCD_WATCH_EVENT_TYPE", go::quote(messages::event_name(event).as_bytes()));
    command.env("ETCD_WATCH_KEY", go::quote(&key)).env("ETCD_WATCH_VALUE", go::quote(&value));
    let ended = command.stdin(std::process::Stdio::null()).status().await;
    let reason = match ended {
        Ok(status) if status.success() => return Ok(()),
        Ok(status) => crate::process::ended(status),
        Err(error) => crate::process::not_started(&exec[0], &error),
    };
    let shown: Vec<String> = exec.iter().map(|word| go::quote(word.as_encoded_bytes())).collect();
    eprintln!("command [{}] error ({reason})", shown.join(" "));
    std::process::exit(i32::from(exit::ERROR))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str, key: Option<&str>) -> Outcome<Wanted> {
        let ends = text.split_whitespace().next_back() == Some("--");
        let line = std::iter::once("watch").chain(text.split_whitespace());
        let matches = watch_command().args_override_self(true).try_get_matches_from(line).unwrap();
        let environment = FromEnvironment { key: key.map(|key| key.as_bytes().to_vec()), end: None };
        wanted(&matches, &environment, ends)
    }

    #[test]
    fn arguments() {
        let check = |line: &str, key: Option<&str>, expected: Result<(&str, &str, i64, &[&str]), &str>| {
            let found = parse(line, key).map_err(|failure| failure.text);
            match (found, expected) {
                (Ok(found), Ok((key, end, revision, exec))) => {
                    let request = &found.request;
                    assert_eq!(
                        (&request.key[..], &request.range_end[..], request.start_revision),
                        (key.as_bytes(), end.as_bytes(), revision)
                    );
                    assert_eq!(found.exec, exec, "{line}");
                }
                (Err(found), Err(expected)) => assert_eq!(found, expected, "{line}"),
                (found, expected) => panic!("{line}: {found:?} instead of {expected:?}"),
            }
        };
        check("foo", None, Ok(("foo", "", 0, &[])));
        check("foo bar --rev 3", None, Ok(("foo", "bar", 3, &[])));
        check("foo --prefix", None, Ok(("foo", "fop", 0, &[])));
        check("foo --rev 1 bar -- echo --rev hello", None, Ok(("foo", "bar", 1, &["echo", "--rev", "hello"])));
        check("-- echo hello", Some("foo"), Ok(("foo", "", 0, &["echo", "hello"])));
        check("--rev 1", Some("foo"), Ok(("foo", "", 1, &[])));
        check("", None, Err(ARGUMENTS));
        check("-- echo", None, Err(ARGUMENTS));
        check("foo bar --", None, Err("bad number of arguments (found separator --, but no commands)"));
        check("foo", Some("foo"), Err("bad number of arguments (found conflicting environment key)"));
        check("foo -- echo", Some("foo"), Err("bad number of arguments (found conflicting environment key)"));
        check("foo bar --prefix", None, Err("`range_end` and `--prefix` are mutually exclusive"));
    }

    #[test]
    fn lines_of_the_interactive_mode() {
        let none = FromEnvironment::default();
        assert!(matches!(read_order("progress", &none), Ok(Some(Order::Progress))));
        for wrong in ["", "watch", "get foo", "watch a b --prefix"] {
            assert!(matches!(read_order(wrong, &none), Ok(None)), "{wrong}");
        }
        let Ok(Some(Order::Watch(wanted))) = read_order("watch foo --prev-kv -- echo 'a b'", &none) else { panic!("no watch") };
        assert!(wanted.request.prev_kv);
        assert_eq!(wanted.exec, ["echo", "a b"]);
        assert_eq!(read_order("watch foo --", &none).err().map(|failure| failure.code), Some(exit::BAD_ARGS));
    }
}
