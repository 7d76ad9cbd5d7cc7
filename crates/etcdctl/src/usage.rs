//! Help and complaints about flags, laid out as upstream's (cobra with pkg/cobrautl): NAME, USAGE, DESCRIPTION, COMMANDS, OPTIONS. Reads the command tree only.

use clap::error::{ContextKind, ErrorKind};
use clap::{Arg, Command};

use crate::{API_VERSION, VERSION, flags};

/// What is wrong with a command line, as pflag says it.
pub fn describe(error: &clap::Error) -> String {
    let context = |kind| error.get(kind).map(ToString::to_string).unwrap_or_default();
    let flag = context(ContextKind::InvalidArg);
    let flag = flag.split([' ', '=', '[']).next().unwrap_or_default();
    match error.kind() {
        ErrorKind::UnknownArgument => match flag.strip_prefix('-') {
            Some(short) if !short.starts_with('-') => {
                format!("unknown shorthand flag: '{}' in {flag}", short.chars().next().unwrap_or('-'))
            }
            _ => format!("unknown flag: {flag}"),
        },
        ErrorKind::ValueValidation => {
            let reason = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
            let value = crate::go::quote(context(ContextKind::InvalidValue).as_bytes());
            format!("invalid argument {value} for \"{flag}\" flag: {reason}")
        }
        ErrorKind::InvalidValue | ErrorKind::TooFewValues | ErrorKind::WrongNumberOfValues => format!("flag needs an argument: {flag}"),
        _ => error.render().to_string().lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned(),
    }
}

/// The usage of the command that `path` leads to from `root`.
pub fn text(root: &Command, path: &[&str]) -> String {
    let mut command = root;
    for name in path {
        let Some(next) = command.find_subcommand(name) else { break };
        command = next;
    }
    let top = path.is_empty() || std::ptr::eq(command, root);
    let about = command.get_about().map(ToString::to_string).unwrap_or_default();
    let name = if top { root.get_name().to_owned() } else { path.join(" ") };
    let mut out = format!("NAME:\n\t{name} - {about}\n\nUSAGE:\n\t{}\n\n", usage_line(root, command, path));
    if let Some(long) = command.get_long_about() {
        out.push_str("DESCRIPTION:\n");
        long.to_string().lines().for_each(|line| out.push_str(&format!("\t{line}\n")));
        out.push('\n');
    }
    if top {
        out.push_str(&format!("VERSION:\n\t{VERSION}\n\n"));
    }
    if command.has_subcommands() {
        out.push_str(&format!("API VERSION:\n\t{API_VERSION}\n\n\nCOMMANDS:\n"));
        let mut rows = Vec::new();
        list("", command, top, &mut rows);
        rows.sort();
        out.push_str(&columns(&rows, "\t"));
        out.push('\n');
    }
    let own: Vec<&Arg> = command.get_arguments().filter(|arg| !arg.is_hide_set()).collect();
    let global = inherited(root, path);
    out.push_str("OPTIONS:\n");
    out.push_str(&columns(&options(&own, command.get_name()), ""));
    out.push('\n');
    if !global.is_empty() {
        out.push_str("GLOBAL OPTIONS:\n");
        out.push_str(&columns(&options(&global, ""), ""));
        out.push('\n');
    }
    out
}

/// The flags that the commands above give to a command.
fn inherited<'a>(root: &'a Command, path: &[&str]) -> Vec<&'a Arg> {
    let (mut command, mut found) = (root, Vec::new());
    for name in path {
        found.extend(command.get_arguments().filter(|arg| arg.is_global_set() && !arg.is_hide_set()));
        let Some(next) = command.find_subcommand(name) else { break };
        command = next;
    }
    found
}

fn usage_line(root: &Command, command: &Command, path: &[&str]) -> String {
    let own = command.clone().render_usage().to_string();
    let own = own.trim_start_matches("Usage: ").to_owned();
    if path.is_empty() {
        return format!("{} [flags]", root.get_name());
    }
    let parents = &path[..path.len() - 1];
    let parents: String = std::iter::once(root.get_name()).chain(parents.iter().copied()).map(|name| format!("{name} ")).collect();
    format!("{parents}{own} [flags]")
}

/// At the top the commands of the groups are listed, not the groups.
fn list(prefix: &str, command: &Command, deep: bool, rows: &mut Vec<(String, String)>) {
    for member in command.get_subcommands().filter(|member| !member.is_hide_set()) {
        let name = format!("{prefix}{}", member.get_name());
        if deep && member.has_subcommands() {
            list(&format!("{name} "), member, deep, rows);
        } else {
            rows.push((name, member.get_about().map(ToString::to_string).unwrap_or_default()));
        }
    }
}

fn options(args: &[&Arg], command: &str) -> Vec<(String, String)> {
    let mut rows: Vec<(String, String, String)> = args
        .iter()
        .map(|arg| {
            let name = arg.get_long().unwrap_or_default();
            let start = arg.get_short().map_or_else(|| "      ".to_owned(), |short| format!("  -{short}, "));
            let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
            (name.to_owned(), format!("{start}--{name}{}", default_of(arg)), help)
        })
        .collect();
    if !command.is_empty() {
        rows.push(("help".into(), "  -h, --help[=false]".into(), format!("help for {command}")));
    }
    rows.sort();
    rows.into_iter().map(|(_, flag, help)| (flag, help)).collect()
}

fn default_of(arg: &Arg) -> String {
    let default: Vec<String> = arg.get_default_values().iter().map(|value| value.to_string_lossy().into_owned()).collect();
    let default = default.join(",");
    if arg.get_num_args().is_some_and(|count| count.min_values() == 0) {
        return format!("[={default}]");
    }
    if arg.get_value_delimiter().is_some() {
        return format!("=[{default}]");
    }
    let quoted = arg.get_value_names().is_some_and(|names| names.iter().any(|name| name.as_str() == flags::QUOTED));
    if quoted { format!("={}", crate::go::quote(default.as_bytes())) } else { format!("={default}") }
}

/// Two columns, parted by tab stops of eight, as Go's tabwriter fills them.
fn columns(rows: &[(String, String)], start: &str) -> String {
    let width = rows.iter().map(|(first, _)| first.chars().count() + 1).max().unwrap_or(0).div_ceil(8) * 8;
    let line = |(first, second): &(String, String)| {
        let tabs = (width - first.chars().count()).div_ceil(8);
        format!("{start}{first}{}{second}\n", "\t".repeat(tabs))
    };
    rows.iter().map(line).collect()
}
