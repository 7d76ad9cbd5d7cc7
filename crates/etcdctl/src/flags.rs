//! Flags that behave as pflag's: switches take `=true`, the last one wins, values may start with a dash; and how commands read them. Names no flag.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};

use crate::go;

/// Marks flags whose default is shown in quotes.
pub const QUOTED: &str = "string";
const WORDS: &str = "args";

pub fn switch(name: &'static str, help: &'static str) -> Arg {
    switch_from(name, "false", help)
}

pub fn switch_from(name: &'static str, default: &'static str, help: &'static str) -> Arg {
    let arg = Arg::new(name).long(name).help(help).action(ArgAction::Set).num_args(0..=1).require_equals(true);
    arg.default_missing_value("true").default_value(default).value_parser(go::parse_bool)
}

pub fn text(name: &'static str, default: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).help(help).default_value(default).value_name(QUOTED).allow_hyphen_values(true)
}

pub fn number(name: &'static str, default: &'static str, help: &'static str) -> Arg {
    let parse = |text: &str| go::parse_int(text, 10);
    Arg::new(name).long(name).help(help).default_value(default).allow_hyphen_values(true).value_parser(parse)
}

pub fn period(name: &'static str, default: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).help(help).default_value(default).value_parser(base::duration::parse)
}

/// A command that takes any number of arguments: how many it wants it checks itself, to say so in upstream's words.
pub fn command(name: &'static str, usage: &'static str, about: &'static str) -> Command {
    let words = Arg::new(WORDS).num_args(0..).value_parser(value_parser!(OsString)).hide(true);
    Command::new(name).override_usage(usage).about(about).arg(words)
}

/// A command that only has others under it.
pub fn group(name: &'static str, usage: &'static str, about: &'static str, members: Vec<Command>) -> Command {
    command(name, usage, about).subcommands(members)
}

pub fn is_on(matches: &ArgMatches, name: &str) -> bool {
    matches.get_one::<bool>(name).copied().unwrap_or(false)
}

pub fn string(matches: &ArgMatches, name: &str) -> String {
    matches.get_one::<String>(name).cloned().unwrap_or_default()
}

pub fn int(matches: &ArgMatches, name: &str) -> i64 {
    matches.get_one::<i64>(name).copied().unwrap_or(0)
}

pub fn time(matches: &ArgMatches, name: &str) -> Duration {
    matches.get_one::<Duration>(name).copied().unwrap_or(Duration::ZERO)
}

/// Whether the flag stands on the command line.
pub fn is_given(matches: &ArgMatches, name: &str) -> bool {
    matches.value_source(name) == Some(clap::parser::ValueSource::CommandLine)
}

/// The arguments; keys and values may be any bytes.
pub fn words(matches: &ArgMatches) -> Vec<Vec<u8>> {
    matches.get_many::<OsString>(WORDS).into_iter().flatten().map(|word| word.as_bytes().to_vec()).collect()
}

/// The arguments of commands that take names and numbers.
pub fn texts(matches: &ArgMatches) -> Vec<String> {
    matches.get_many::<OsString>(WORDS).into_iter().flatten().map(|word| word.to_string_lossy().into_owned()).collect()
}
