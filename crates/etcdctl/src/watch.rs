//! `watch`: events of keys until somebody stops it, also several watches by lines from standard input, also with a program to run for each
//! event. How a watch outlives its connection is in `follow`.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use clap::{Arg, ArgMatches, Command, value_parser};
use etcd::pb::{self, WatchCreateRequest};
use tokio::sync::{broadcast, mpsc};

use crate::connection::Channel;
use crate::exit::{self, Failure, Outcome};
use crate::flags::{command, int, is_on, number, switch, words};
use crate::follow::{Follow, cancel_text, revision_of};
use crate::printer::{Printer, messages, say_line};
use crate::{Ctl, go, keys, line};

const ARGUMENTS: &str = "bad number of arguments";
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
    let (_progress, asked) = broadcast::channel(1);
    show(ctl.printer, ctl.connect().await?, wanted, asked).await?;
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
    let channel = ctl.connect().await?;
    let (sender, mut orders) = mpsc::channel(16);
    let environment = environment.clone();
    let reader = tokio::task::spawn_blocking(move || read_orders(&environment, &sender));
    let (progress, _) = broadcast::channel(16);
    let mut watches = tokio::task::JoinSet::new();
    loop {
        tokio::select! {
            order = orders.recv() => match order {
                Some(Order::Watch(wanted)) => drop(watches.spawn(show(ctl.printer, channel.clone(), wanted, progress.subscribe()))),
                // Nobody may be there to ask.
                Some(Order::Progress) => drop(progress.send(())),
                None => return reader.await.map_err(|error| Failure::error(error.to_string()))?,
            },
            // A watch that the server ends leaves the others alone; a fault does not.
            Some(ended) = watches.join_next() => ended.map_err(|error| Failure::error(error.to_string()))??,
        }
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

/// Shows what one watch sees, until the server ends it.
async fn show(printer: Printer, channel: Channel, wanted: Wanted, mut progress: broadcast::Receiver<()>) -> Outcome {
    let mut follow = Follow::new(channel, wanted.request);
    loop {
        let answer = tokio::select! {
            answer = follow.next() => answer?,
            Ok(()) = progress.recv() => {
                follow.ask_progress().await;
                continue;
            }
        };
        if answer.canceled || answer.compact_revision != 0 {
            eprintln!("watch was canceled ({})", cancel_text(&answer));
            return printer.print(&answer);
        }
        let revision = revision_of(&answer);
        if answer.events.is_empty() {
            say_line(&format!("progress notify: {revision}"));
        }
        printer.print(&answer)?;
        if !wanted.exec.is_empty() {
            for event in &answer.events {
                run_for(&wanted.exec, revision, event).await?;
            }
        }
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
    Err(Failure::silent(exit::ERROR))
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
