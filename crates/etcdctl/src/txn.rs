//! `txn`: three blocks of lines from standard input make one transaction. How lines read is in `line`.

use std::ffi::OsString;
use std::io::BufRead;
use std::os::unix::ffi::OsStringExt;

use clap::{ArgMatches, Command};
use etcd::pb::{self, request_op};

use crate::exit::{self, Failure, Outcome};
use crate::flags::{command, is_on, switch, words};
use crate::printer::say_line;
use crate::{Ctl, kv, line};

pub fn txn_command() -> Command {
    command("txn", "txn [options]", "Txn processes all the requests in one transaction")
        .arg(switch("interactive", "Input transaction in interactive mode").short('i'))
}

pub async fn txn(ctl: &Ctl, matches: &ArgMatches) -> Outcome {
    if !words(matches).is_empty() {
        return Err(Failure::bad_args("txn command does not accept argument"));
    }
    let prompt = |text: &str| {
        if is_on(matches, "interactive") {
            say_line(text);
        }
    };
    let mut input = std::io::stdin().lock();
    prompt("compares:");
    let compare = block(&mut input, line::compare)?;
    prompt("success requests (get, put, del):");
    let success = block(&mut input, operation)?;
    prompt("failure requests (get, put, del):");
    let failure = block(&mut input, operation)?;
    drop(input);
    let request = pb::TxnRequest { compare, success, failure };
    let answer = ctl.within(ctl.connect().await?.kv().txn(request)).await?;
    ctl.printer.print(&answer)
}

/// The lines up to an empty one, each understood before the next is read: a person may be typing them.
fn block<T>(input: &mut dyn BufRead, understand: fn(&str) -> Outcome<T>) -> Outcome<Vec<T>> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        input.read_line(&mut line).map_err(|error| Failure::new(exit::INVALID_INPUT, error.to_string()))?;
        if !line.ends_with('\n') {
            return Err(Failure::new(exit::INVALID_INPUT, "EOF"));
        }
        match line.trim() {
            "" => return Ok(lines),
            line => lines.push(understand(line)?),
        }
    }
}

/// A line with the syntax of the commands `get`, `put` and `del`.
fn operation(line: &str) -> Outcome<pb::RequestOp> {
    let words = line::words(line)?;
    if words.len() < 2 {
        return Err(Failure::new(exit::INVALID_INPUT, format!("invalid txn compare request: {line}")));
    }
    let invalid = || Failure::new(exit::INVALID_INPUT, format!("invalid txn request: {line}"));
    let commands = Command::new("txn").no_binary_name(true).args_override_self(true);
    let commands = commands.subcommands([kv::put_command(), kv::get_command(), kv::del_command()]);
    let found = commands.try_get_matches_from(words.into_iter().map(OsString::from_vec)).map_err(|_| invalid())?;
    let request = match found.subcommand() {
        Some(("put", matches)) => request_op::Request::RequestPut(kv::put_request(matches)?),
        Some(("get", matches)) => request_op::Request::RequestRange(kv::range_request(matches)?),
        Some((_, matches)) => request_op::Request::RequestDeleteRange(kv::delete_request(matches)?),
        None => return Err(invalid()),
    };
    Ok(pb::RequestOp { request: Some(request) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_end_with_an_empty_line() {
        let mut input: &[u8] = b" a \nb\n\nc\n  \nd";
        let keep = |line: &str| Ok(line.to_owned());
        assert_eq!(block(&mut input, keep).unwrap(), ["a", "b"]);
        assert_eq!(block(&mut input, keep).unwrap(), ["c"]);
        assert_eq!(block(&mut input, keep).unwrap_err(), Failure::new(exit::INVALID_INPUT, "EOF"));
    }

    #[test]
    fn operations() {
        let put = operation("put key2 \"some extra key\" --prev-kv").unwrap();
        let Some(request_op::Request::RequestPut(put)) = put.request else { panic!("{put:?}") };
        assert_eq!((&put.value[..], put.prev_kv), (&b"some extra key"[..], true));
        assert!(matches!(operation("get a --prefix").unwrap().request, Some(request_op::Request::RequestRange(_))));
        assert!(matches!(operation("del a b").unwrap().request, Some(request_op::Request::RequestDeleteRange(_))));
        assert_eq!(operation("get").unwrap_err().text, "invalid txn compare request: get");
        assert_eq!(operation("move a b").unwrap_err().text, "invalid txn request: move a b");
        assert_eq!(operation("get a --odd").unwrap_err().text, "invalid txn request: get a --odd");
    }
}
