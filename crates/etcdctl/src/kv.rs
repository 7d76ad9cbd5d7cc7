//! `get`, `put`, `del`, `compaction`: one request each. How `txn` reads the same requests from lines is here too. Prints only answers.

use std::io::Read;

use clap::{ArgMatches, Command};
use etcd::pb::{self, range_request};

use crate::connection::Channel;
use crate::exit::{self, Failure, Outcome};
use crate::flags::{command, int, is_on, number, string, switch, text, texts, words};
use crate::printer::{Format, say_line};
use crate::{Ctl, go, keys};

const BOTH_RANGES: &str = "`--prefix` and `--from-key` cannot be set at the same time, choose one";
const TOO_MANY: &str = "too many arguments, only accept one argument when `--prefix` or `--from-key` is set";

pub fn get_command() -> Command {
    command("get", "get [options] <key> [range_end]", "Gets the key or a range of keys").args([
        text("consistency", "l", "Linearizable(l) or Serializable(s)"),
        text("order", "", "Order of results; ASCEND or DESCEND (ASCEND by default)"),
        text("sort-by", "", "Sort target; CREATE, KEY, MODIFY, VALUE, or VERSION"),
        number("limit", "0", "Maximum number of results"),
        switch("prefix", "Get keys with matching prefix"),
        switch("from-key", "Get keys that are greater than or equal to the given key using byte compare"),
        number("rev", "0", "Specify the kv revision"),
        switch("keys-only", "Get only the keys"),
        switch("count-only", "Get only the count"),
        switch("print-value-only", "Only write values when using the \"simple\" output format"),
    ])
}

pub fn put_command() -> Command {
    command("put", "put [options] <key> <value> (<value> can also be given from stdin)", "Puts the given key into the store")
        .long_about(
            "Puts the given key into the store.\n\n\
             When <value> begins with '-', <value> is interpreted as a flag.\n\
             Insert '--' for workaround:\n\n\
             $ put <key> -- <value>\n\
             $ put -- <key> <value>\n\n\
             If <value> isn't given as a command line argument and '--ignore-value' is not specified,\n\
             this command tries to read the value from standard input.\n\n\
             If <lease> isn't given as a command line argument and '--ignore-lease' is not specified,\n\
             this command tries to read the value from standard input.\n\n\
             For example,\n\
             $ cat file | put <key>\n\
             will store the content of the file to <key>.",
        )
        .args([
            text("lease", "0", "lease ID (in hexadecimal) to attach to the key"),
            switch("prev-kv", "return the previous key-value pair before modification"),
            switch("ignore-value", "updates the key using its current value"),
            switch("ignore-lease", "updates the key using its current lease"),
        ])
}

pub fn del_command() -> Command {
    command("del", "del [options] <key> [range_end]", "Removes the specified key or range of keys [key, range_end)").args([
        switch("prefix", "delete keys with matching prefix"),
        switch("prev-kv", "return deleted key-value pairs"),
        switch("from-key", "delete keys that are greater than or equal to the given key using byte compare"),
    ])
}

pub fn compaction_command() -> Command {
    command("compaction", "compaction [options] <revision>", "Compacts the event history in etcd")
        .arg(switch("physical", "'true' to wait for compaction to physically remove all old revisions"))
}

pub fn range_request(matches: &ArgMatches) -> Outcome<pb::RangeRequest> {
    let args = words(matches);
    let (prefix, from_key) = (is_on(matches, "prefix"), is_on(matches, "from-key"));
    let (keys_only, count_only) = (is_on(matches, "keys-only"), is_on(matches, "count-only"));
    let Some(key) = args.first() else {
        return Err(Failure::bad_args("get command needs one argument as key and an optional argument as range_end"));
    };
    if prefix && from_key {
        return Err(Failure::bad_args(BOTH_RANGES));
    }
    if keys_only && count_only {
        return Err(Failure::bad_args("`--keys-only` and `--count-only` cannot be set at the same time, choose one"));
    }
    let serializable = match string(matches, "consistency").as_str() {
        "s" => true,
        "l" => false,
        other => return Err(Failure::new(exit::BAD_FEATURE, format!("unknown consistency flag {}", go::quote(other.as_bytes())))),
    };
    let (key, range_end) = range_of(key, args.get(1), prefix, from_key)?;
    let (sort_order, sort_target) = sorting(&string(matches, "order"), &string(matches, "sort-by"))?;
    Ok(pb::RangeRequest {
        key: key.into(),
        range_end: range_end.into(),
        limit: int(matches, "limit"),
        revision: int(matches, "rev").max(0),
        sort_order: sort_order.into(),
        sort_target: sort_target.into(),
        serializable,
        keys_only,
        count_only,
        ..Default::default()
    })
}

fn range_of(key: &[u8], end: Option<&Vec<u8>>, prefix: bool, from_key: bool) -> Outcome<(Vec<u8>, Vec<u8>)> {
    match end {
        Some(_) if prefix || from_key => Err(Failure::bad_args(TOO_MANY)),
        Some(end) => Ok((key.to_vec(), end.clone())),
        None => Ok(keys::range(key, prefix, from_key)),
    }
}

/// Ascending by key is the order of the server, so it is not asked for.
fn sorting(order: &str, target: &str) -> Outcome<(range_request::SortOrder, range_request::SortTarget)> {
    use range_request::{SortOrder, SortTarget};
    let wanted = match order.to_uppercase().as_str() {
        "" => SortOrder::None,
        "ASCEND" => SortOrder::Ascend,
        "DESCEND" => SortOrder::Descend,
        _ => return Err(Failure::new(exit::BAD_FEATURE, format!("bad sort order {order}"))),
    };
    let target = match target.to_uppercase().as_str() {
        "" | "KEY" => SortTarget::Key,
        "CREATE" => SortTarget::Create,
        "MODIFY" => SortTarget::Mod,
        "VALUE" => SortTarget::Value,
        "VERSION" => SortTarget::Version,
        _ => return Err(Failure::new(exit::BAD_FEATURE, format!("bad sort target {target}"))),
    };
    let wanted = if target == SortTarget::Key && wanted == SortOrder::Ascend { SortOrder::None } else { wanted };
    Ok((wanted, target))
}

pub fn put_request(matches: &ArgMatches) -> Outcome<pb::PutRequest> {
    const ARGUMENTS: &str = "put command needs 1 argument and input from stdin or 2 arguments";
    let mut args = words(matches).into_iter();
    let ignore_value = is_on(matches, "ignore-value");
    let key = args.next().ok_or_else(|| Failure::bad_args(ARGUMENTS))?;
    let value = match (args.next(), ignore_value) {
        (Some(_), true) => return Err(Failure::bad_args("put command needs only 1 argument when 'ignore-value' is set")),
        (Some(value), false) => value,
        (None, true) => Vec::new(),
        (None, false) => {
            let mut value = Vec::new();
            let read = std::io::stdin().lock().read_to_end(&mut value);
            read.ok().filter(|count| *count > 0).ok_or_else(|| Failure::bad_args(ARGUMENTS))?;
            value
        }
    };
    let lease = go::parse_int(&string(matches, "lease"), 16)
        .map_err(|error| Failure::bad_args(format!("bad lease ID ({error}), expecting ID in Hex")))?;
    Ok(pb::PutRequest {
        key: key.into(),
        value: value.into(),
        lease,
        prev_kv: is_on(matches, "prev-kv"),
        ignore_value,
        ignore_lease: is_on(matches, "ignore-lease"),
    })
}

pub fn delete_request(matches: &ArgMatches) -> Outcome<pb::DeleteRangeRequest> {
    let args = words(matches);
    let (prefix, from_key) = (is_on(matches, "prefix"), is_on(matches, "from-key"));
    let (Some(key), true) = (args.first(), args.len() <= 2) else {
        return Err(Failure::bad_args("del command needs one argument as key and an optional argument as range_end"));
    };
    if prefix && from_key {
        return Err(Failure::bad_args(BOTH_RANGES));
    }
    let (key, range_end) = range_of(key, args.get(1), prefix, from_key)?;
    Ok(pb::DeleteRangeRequest { key: key.into(), range_end: range_end.into(), prev_kv: is_on(matches, "prev-kv") })
}

pub async fn range(ctl: &Ctl, channel: &Channel, request: pb::RangeRequest) -> Outcome<pb::RangeResponse> {
    let call = || {
        let (mut client, request) = (channel.kv(), request.clone());
        async move { client.range(request).await }
    };
    ctl.read(channel, call).await
}

pub async fn get(ctl: &mut Ctl, matches: &ArgMatches) -> Outcome {
    let request = range_request(matches)?;
    let answer = range(ctl, &ctl.connect().await?, request).await?;
    if is_on(matches, "count-only") && ctl.printer.format != Format::Fields {
        return Err(Failure::bad_args("--count-only is only for `--write-out=fields`"));
    }
    if is_on(matches, "print-value-only") {
        if ctl.printer.format != Format::Simple {
            return Err(Failure::bad_args("print-value-only is only for `--write-out=simple`"));
        }
        ctl.printer.style.value_only = true;
    }
    ctl.printer.print(&answer)
}

pub async fn put(ctl: &Ctl, matches: &ArgMatches) -> Outcome {
    let request = put_request(matches)?;
    let answer = ctl.within(ctl.connect().await?.kv().put(request)).await?;
    ctl.printer.print(&answer)
}

pub async fn del(ctl: &Ctl, matches: &ArgMatches) -> Outcome {
    let request = delete_request(matches)?;
    let answer = ctl.within(ctl.connect().await?.kv().delete_range(request)).await?;
    ctl.printer.print(&answer)
}

pub async fn compaction(ctl: &Ctl, matches: &ArgMatches) -> Outcome {
    let [revision] = &texts(matches)[..] else { return Err(Failure::bad_args("compaction command needs 1 argument")) };
    let revision = go::parse_int(revision, 10).map_err(Failure::error)?;
    let request = pb::CompactionRequest { revision, physical: is_on(matches, "physical") };
    ctl.within(ctl.connect().await?.kv().compact(request)).await?;
    say_line(&format!("compacted revision {revision}"));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(command: Command, line: &str) -> ArgMatches {
        command.no_binary_name(true).args_override_self(true).try_get_matches_from(line.split_whitespace()).unwrap()
    }

    #[test]
    fn ranges() {
        let check = |line: &str, expected: Result<(&str, &str), &str>| {
            let found = range_request(&matches(get_command(), line)).map_err(|failure| failure.text);
            let found = found.map(|request| {
                (String::from_utf8_lossy(&request.key).into_owned(), String::from_utf8_lossy(&request.range_end).into_owned())
            });
            assert_eq!(found.as_ref().map(|(key, end)| (key.as_str(), end.as_str())).map_err(String::as_str), expected, "{line}");
        };
        check("a", Ok(("a", "")));
        check("a b", Ok(("a", "b")));
        check("a --prefix", Ok(("a", "b")));
        check("--prefix=false a", Ok(("a", "")));
        check("--prefix --prefix=0 a", Ok(("a", "")));
        check("a --from-key", Ok(("a", "\0")));
        check("", Err("get command needs one argument as key and an optional argument as range_end"));
        check("a b --prefix", Err(TOO_MANY));
        check("a --prefix --from-key", Err(BOTH_RANGES));
        check("a --order up", Err("bad sort order up"));
        check("a --sort-by up", Err("bad sort target up"));
        check("a --consistency x", Err("unknown consistency flag \"x\""));
    }

    #[test]
    fn orders() {
        use range_request::{SortOrder, SortTarget};
        let check = |order, target, expected| assert_eq!(sorting(order, target).unwrap(), expected);
        check("", "", (SortOrder::None, SortTarget::Key));
        check("ascend", "key", (SortOrder::None, SortTarget::Key));
        check("ASCEND", "modify", (SortOrder::Ascend, SortTarget::Mod));
        check("descend", "", (SortOrder::Descend, SortTarget::Key));
    }

    #[test]
    fn puts() {
        let request = put_request(&matches(put_command(), "a --lease 1f --prev-kv -- -1")).unwrap();
        assert_eq!((&request.value[..], request.lease, request.prev_kv), (&b"-1"[..], 31, true));
        let failure = put_request(&matches(put_command(), "a b --ignore-value")).unwrap_err();
        assert_eq!(failure.code, exit::BAD_ARGS);
        let failure = put_request(&matches(put_command(), "a b --lease zz")).unwrap_err();
        assert_eq!(failure.text, "bad lease ID (strconv.ParseInt: parsing \"zz\": invalid syntax), expecting ID in Hex");
    }
}
