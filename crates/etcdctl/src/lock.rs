//! `lock` and `elect`: hold a name until a signal or while a program runs; follow who is elected. The order among those who want it is `session`'s.

use std::os::unix::ffi::OsStringExt;
use std::os::unix::process::ExitStatusExt;

use clap::{ArgMatches, Command};
use etcd::pb::{self, WatchCreateRequest, mvccpb::event::EventType, range_request};

use crate::exit::{self, Failure, Outcome};
use crate::flags::{command, int, is_on, number, switch, texts, words};
use crate::follow::{Follow, cancel_text, revision_of};
use crate::session::{Entry, Session, interrupted};
use crate::{Ctl, keys, kv, process};

/// Seconds that an election's lease lives without its owner.
const ELECTION_TTL: i64 = 60;

pub fn lock_command() -> Command {
    command("lock", "lock <lockname> [exec-command arg1 arg2 ...]", "Acquires a named lock").arg(number("ttl", "10", "timeout for session"))
}

pub fn elect_command() -> Command {
    command("elect", "elect <election-name> [proposal]", "Observes and participates in leader election")
        .arg(switch("listen", "observation mode").short('l'))
}

pub async fn lock(ctl: &Ctl, matches: &ArgMatches) -> Outcome {
    let args = words(matches);
    let Some((name, program)) = args.split_first() else {
        return Err(Failure::bad_args("lock takes a lock name argument and an optional command to execute"));
    };
    let prefix = format!("{}/", String::from_utf8_lossy(name));
    let session = Session::open(ctl, int(matches, "ttl")).await?;
    let entry = session.enter(ctl, &prefix, "").await?;
    let revision = tokio::select! {
        waited = session.wait_for_turn(ctl, &prefix, entry.created) => waited?,
        signal = interrupted() => {
            signal?;
            session.end(ctl).await?;
            return Err(Failure::error("context canceled"));
        }
        () = session.expired() => return Err(Failure::error("mutex: session is expired")),
    };
    if !program.is_empty() {
        let ran = run(program, &entry, revision.max(entry.created)).await;
        let left = session.leave(ctl, &entry.key, entry.created).await;
        return ran.and(left);
    }
    show(ctl, &session, &entry, "lock lost on init").await?;
    hold(ctl, &session, &entry, "session expired").await
}

/// Prints the key that is now ours.
async fn show(ctl: &Ctl, session: &Session, entry: &Entry, lost: &str) -> Outcome {
    let request = pb::RangeRequest { key: entry.key.clone().into(), ..Default::default() };
    let answer = kv::range(ctl, &session.channel, request).await?;
    if answer.kvs.is_empty() {
        return Err(Failure::error(lost));
    }
    ctl.printer.print(&answer)
}

/// Until a signal comes, then gives up.
async fn hold(ctl: &Ctl, session: &Session, entry: &Entry, expired: &str) -> Outcome {
    tokio::select! {
        signal = interrupted() => {
            signal?;
            session.leave(ctl, &entry.key, entry.created).await
        }
        () = session.expired() => Err(Failure::error(expired)),
    }
}

/// The exit code of the program becomes ours. Signals go to it from the terminal; this waits for it.
async fn run(program: &[Vec<u8>], entry: &Entry, revision: i64) -> Outcome {
    let words: Vec<_> = program.iter().map(|word| std::ffi::OsString::from_vec(word.clone())).collect();
    let mut command = tokio::process::Command::new(&words[0]);
    command.args(&words[1..]).stdin(std::process::Stdio::null());
    command.env("ETCD_LOCK_KEY", &entry.key).env("ETCD_LOCK_REV", revision.to_string());
    let mut child = command.spawn().map_err(|error| Failure::error(process::not_started(&words[0], &error)))?;
    let status = loop {
        tokio::select! {
            status = child.wait() => break status.map_err(|error| Failure::error(error.to_string()))?,
            signal = interrupted() => signal?,
        }
    };
    if status.success() {
        return Ok(());
    }
    let code = status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(if status.signal().is_some() { 255 } else { exit::ERROR });
    Err(Failure::new(code, process::ended(status)))
}

pub async fn elect(ctl: &Ctl, matches: &ArgMatches) -> Outcome {
    let args = texts(matches);
    let listen = is_on(matches, "listen");
    match (&args[..], listen) {
        ([name], true) => observe(ctl, name).await,
        ([_], false) => Err(Failure::bad_args("no proposal argument but -l not set")),
        ([_, _], true) => Err(Failure::bad_args("proposal given but -l is set")),
        ([name, proposal], false) => campaign(ctl, name, proposal).await,
        _ => Err(Failure::bad_args("elect takes one election name argument and an optional proposal argument")),
    }
}

async fn campaign(ctl: &Ctl, name: &str, proposal: &str) -> Outcome {
    let prefix = format!("{name}/");
    let session = Session::open(ctl, ELECTION_TTL).await?;
    let entry = session.enter(ctl, &prefix, proposal).await?;
    tokio::select! {
        waited = session.wait_for_turn(ctl, &prefix, entry.created) => drop(waited?),
        signal = interrupted() => {
            signal?;
            session.end(ctl).await?;
            return Err(Failure::error("context canceled"));
        }
        () = session.expired() => return Err(Failure::error("elect: session expired")),
    }
    show(ctl, &session, &entry, "elect: session expired").await?;
    hold(ctl, &session, &entry, "elect: session expired").await
}

/// Prints each leader and each change of its proposal.
async fn observe(ctl: &Ctl, name: &str) -> Outcome {
    tokio::select! {
        lost = follow_leaders(ctl, name) => lost,
        signal = interrupted() => signal,
    }
}

async fn follow_leaders(ctl: &Ctl, name: &str) -> Outcome {
    let prefix = format!("{name}/");
    let end = keys::prefix_end(prefix.as_bytes());
    let channel = ctl.connect().await?;
    loop {
        let request = pb::RangeRequest {
            key: prefix.clone().into(),
            range_end: end.clone().into(),
            limit: 1,
            sort_order: range_request::SortOrder::Ascend.into(),
            sort_target: range_request::SortTarget::Create.into(),
            ..Default::default()
        };
        let first = kv::range(ctl, &channel, request).await?;
        let revision = first.header.as_ref().map_or(0, |header| header.revision);
        let (leader, next) = match first.kvs.first() {
            Some(pair) => {
                let found = (pair.key.clone(), pair.mod_revision + 1);
                let answer = pb::RangeResponse { header: first.header, kvs: first.kvs, ..Default::default() };
                ctl.printer.print(&answer)?;
                found
            }
            None => {
                let request = WatchCreateRequest {
                    key: prefix.clone().into(),
                    range_end: end.clone().into(),
                    start_revision: revision + 1,
                    ..Default::default()
                };
                wait_for_put(Follow::new(channel.clone(), request)).await?;
                continue;
            }
        };
        follow_leader(ctl, Follow::new(channel.clone(), WatchCreateRequest { key: leader, start_revision: next, ..Default::default() }))
            .await?;
    }
}

async fn wait_for_put(mut follow: Follow) -> Outcome {
    loop {
        let answer = follow.next().await?;
        if answer.canceled {
            return Err(Failure::error("elect: observer lost"));
        }
        if answer.events.iter().any(|event| event.r#type() == EventType::Put) {
            return Ok(());
        }
    }
}

/// Until the leader is gone.
async fn follow_leader(ctl: &Ctl, mut follow: Follow) -> Outcome {
    loop {
        let answer = follow.next().await?;
        if answer.canceled {
            return Err(Failure::error(format!("elect: observer lost ({}, revision {})", cancel_text(&answer), revision_of(&answer))));
        }
        for event in answer.events {
            if event.r#type() == EventType::Delete {
                return Ok(());
            }
            ctl.printer.print(&pb::RangeResponse { header: answer.header, kvs: event.kv.into_iter().collect(), ..Default::default() })?;
        }
    }
}
