//! etcdctl and etcdutl: etcd's command line tools, with the commands, outputs and exit codes of upstream's 3.5. Decides nothing about keys: servers do.

mod auth;
mod check;
mod completion;
mod connection;
mod endpoint;
mod exit;
mod flags;
mod follow;
mod global;
mod go;
mod keys;
mod kv;
mod lease;
mod line;
mod lock;
mod maintenance;
mod member;
mod mirror;
mod printer;
mod process;
mod role;
mod session;
mod snapshot;
mod terminal;
mod txn;
mod usage;
mod user;
mod utl;
mod watch;

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Arg, ArgAction, ArgMatches, Command};

use self::connection::Channel;
use self::exit::{Failure, Outcome};
use self::global::Global;
use self::printer::{Printer, say, say_line};

/// The names that the program may be called by.
const TOOLS: [&str; 2] = ["etcdctl", "etcdutl"];
const VERSION: &str = etcd::ETCD_VERSION;
const API_VERSION: &str = "3.5";
/// Between two tries of a request that reads.
const RETRY: Duration = Duration::from_millis(25);

/// What every command needs.
pub(crate) struct Ctl {
    global: Global,
    printer: Printer,
    tasks: base::Tasks,
}

impl Ctl {
    async fn connect(&self) -> Outcome<Channel> {
        connection::connect(&self.global, &self.global.endpoints, &self.tasks).await
    }

    async fn connect_to(&self, endpoint: &str) -> Outcome<Channel> {
        connection::connect(&self.global, &[endpoint.to_owned()], &self.tasks).await
    }

    /// A request within `--command-timeout`.
    async fn within<T>(&self, call: impl Future<Output = Result<tonic::Response<T>, tonic::Status>>) -> Outcome<T> {
        match tokio::time::timeout(self.global.command_timeout, call).await {
            Ok(answer) => Ok(answer?.into_inner()),
            Err(_) => Err(Failure::error(exit::DEADLINE)),
        }
    }

    /// A request that changes nothing: repeated while servers are not available, as upstream's client does.
    async fn read<T, F>(&self, channel: &Channel, mut call: impl FnMut() -> F) -> Outcome<T>
    where
        F: Future<Output = Result<tonic::Response<T>, tonic::Status>>,
    {
        self.within(async {
            loop {
                match call().await {
                    Err(status) if follow::is_passing(&status) => {
                        channel.leave();
                        tokio::time::sleep(RETRY).await;
                    }
                    answer => return answer,
                }
            }
        })
        .await
    }
}

/// The tool that the program is called as, or that its first argument names; nothing else of the program runs then.
pub fn run_tool(arguments: &[OsString]) -> Option<ExitCode> {
    let called_as = Path::new(arguments.first()?).file_name()?.to_str()?;
    let (name, rest) = if TOOLS.contains(&called_as) { (called_as, 1) } else { (arguments.get(1)?.to_str()?, 2) };
    match name {
        "etcdctl" => Some(finish(run(&arguments[rest..]))),
        "etcdutl" => Some(finish(utl::run(&arguments[rest..]))),
        _ => None,
    }
}

fn finish(outcome: Outcome) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if !failure.text.is_empty() {
                eprintln!("Error: {}", failure.text);
            }
            ExitCode::from(failure.code)
        }
    }
}

/// A tool without its commands.
fn root(name: &'static str, about: &'static str) -> Command {
    Command::new(name)
        .about(about)
        .disable_help_flag(true)
        .disable_help_subcommand(true)
        .no_binary_name(true)
        .infer_subcommands(true)
        .args_override_self(true)
        .arg(Arg::new("help").short('h').long("help").action(ArgAction::SetTrue).global(true).hide(true))
}

fn tree() -> Command {
    let version = flags::command("version", "version", "Prints the version of etcdctl");
    let help = flags::command("help", "help [command]", "Help about any command");
    root("etcdctl", "A simple command line client for etcd3.").args(global::args().into_iter().map(|arg| arg.global(true))).subcommands([
        kv::get_command(),
        kv::put_command(),
        kv::del_command(),
        txn::txn_command(),
        kv::compaction_command(),
        watch::watch_command(),
        lease::lease_command(),
        member::member_command(),
        endpoint::endpoint_command(),
        endpoint::defrag_command(),
        maintenance::alarm_command(),
        maintenance::move_leader_command(),
        maintenance::downgrade_command(),
        snapshot::snapshot_command(),
        auth::auth_command(),
        user::user_command(),
        role::role_command(),
        lock::lock_command(),
        lock::elect_command(),
        check::check_command(),
        mirror::make_mirror_command(),
        completion::completion_command(),
        version,
        help,
    ])
}

fn run(arguments: &[OsString]) -> Outcome {
    match std::env::var("ETCDCTL_API").as_deref() {
        Ok("" | "3") | Err(_) => {}
        Ok(other) => {
            eprintln!("unsupported API version: {other}");
            return Err(Failure::silent(exit::ERROR));
        }
    }
    let root = tree();
    let matches = parse(&root, arguments)?;
    let from_environment = global::from_environment(&matches, &|name| std::env::var(name).ok())?;
    let matches = if from_environment.is_empty() {
        matches
    } else {
        let all: Vec<OsString> = from_environment.into_iter().map(OsString::from).chain(arguments.iter().cloned()).collect();
        parse(&root, &all)?
    };
    let (path, found) = innermost(&matches);
    if is_answered(&root, &path, found) {
        return Ok(());
    }
    if path == ["version"] {
        say_line(&format!("etcdctl version: {VERSION}\nAPI version: {API_VERSION}"));
        return Ok(());
    }
    let global = Global::from_matches(found)?;
    if global.debug {
        global::describe(found);
    }
    let ctl = Ctl { global, printer: global::printer(found)?, tasks: base::Tasks::new() };
    let separator_last = arguments.last().is_some_and(|word| word == "--");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.map_err(|error| Failure::error(format!("starting the async runtime: {error}")))?;
    let outcome = runtime.block_on(dispatch(ctl, &path, found, separator_last));
    // Standard input may still be waited for.
    runtime.shutdown_background();
    outcome
}

/// Help and completion, which a tool gives without doing anything.
fn is_answered(root: &Command, path: &[&str], found: &ArgMatches) -> bool {
    let command = path.iter().try_fold(root, |command, name| command.find_subcommand(name));
    let is_group = command.is_some_and(Command::has_subcommands);
    if path == ["help"] {
        let words = flags::texts(found);
        let path: Vec<&str> = words.iter().map(String::as_str).collect();
        say(usage::text(root, &path).as_bytes());
    } else if flags::is_on(found, "help") || is_group {
        say(usage::text(root, path).as_bytes());
    } else if let ["completion", shell] = path {
        say(completion::script(root, shell).as_bytes());
    } else {
        return false;
    }
    true
}

/// The names of the commands, outermost first, and what the last one was given.
fn innermost(matches: &ArgMatches) -> (Vec<&str>, &ArgMatches) {
    let (mut path, mut found) = (Vec::new(), matches);
    while let Some((name, inner)) = found.subcommand() {
        path.push(name);
        found = inner;
    }
    (path, found)
}

/// A wrong command line is told with the usage of the command that it is for.
fn parse(root: &Command, arguments: &[OsString]) -> Outcome<ArgMatches> {
    root.clone().try_get_matches_from(arguments).map_err(|error| {
        if error.kind() == clap::error::ErrorKind::InvalidSubcommand || error.kind() == clap::error::ErrorKind::MissingSubcommand {
            let name = error.get(clap::error::ContextKind::InvalidSubcommand).map(ToString::to_string).unwrap_or_default();
            return unknown_command(root, &name);
        }
        if let Some(name) = unknown_name(root, arguments) {
            return unknown_command(root, &name);
        }
        let mut path: Vec<&str> = Vec::new();
        let mut command = root;
        for word in arguments.iter().filter_map(|word| word.to_str()) {
            if let Some(next) = command.find_subcommand(word) {
                path.push(next.get_name());
                command = next;
            }
        }
        say(usage::text(root, &path).as_bytes());
        Failure::error(usage::describe(&error))
    })
}

fn unknown_command(root: &Command, name: &str) -> Failure {
    let tool = root.get_name();
    Failure::error(format!("unknown command \"{name}\" for \"{tool}\"\nRun '{tool} --help' for usage."))
}

/// The first word, where it names no command at all.
fn unknown_name(root: &Command, arguments: &[OsString]) -> Option<String> {
    let first = arguments.first()?.to_str()?;
    let known = root.get_subcommands().any(|command| command.get_name().starts_with(first));
    (!first.starts_with('-') && !known).then(|| first.to_owned())
}

async fn dispatch(mut ctl: Ctl, path: &[&str], matches: &ArgMatches, separator_last: bool) -> Outcome {
    connection::discover(&mut ctl.global).await?;
    match path {
        ["get"] => kv::get(&mut ctl, matches).await,
        ["put"] => kv::put(&ctl, matches).await,
        ["del"] => kv::del(&ctl, matches).await,
        ["compaction"] => kv::compaction(&ctl, matches).await,
        ["txn"] => txn::txn(&ctl, matches).await,
        ["watch"] => watch::watch(&ctl, matches, separator_last).await,
        ["lease", name] => lease::run(&ctl, name, matches).await,
        ["member", name] => member::run(&ctl, name, matches).await,
        ["endpoint", name] => endpoint::run(&ctl, name, matches).await,
        ["defrag"] if flags::is_given(matches, "data-dir") => utl::defrag(matches),
        ["defrag"] => endpoint::defrag(&ctl, matches).await,
        ["alarm", name] => maintenance::alarm(&ctl, name, matches).await,
        ["move-leader"] => maintenance::move_leader(&ctl, matches).await,
        ["downgrade", name] => maintenance::downgrade(&ctl, name, matches).await,
        ["snapshot", name] => snapshot::run(&ctl, name, matches).await,
        ["auth", name] => auth::run(&ctl, name, matches).await,
        ["user", name] => user::run(&ctl, name, matches).await,
        ["role", name] => role::run(&ctl, name, matches).await,
        ["lock"] => lock::lock(&ctl, matches).await,
        ["elect"] => lock::elect(&ctl, matches).await,
        ["check", name] => check::run(&ctl, name, matches).await,
        ["make-mirror"] => mirror::make_mirror(&ctl, matches).await,
        _ => Err(Failure::error(format!("unknown command {:?} for \"etcdctl\"", path.join(" ")))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn walk<'a>(command: &'a Command, path: &mut Vec<&'a str>, see: &mut dyn FnMut(&[&str])) {
        see(path);
        for member in command.get_subcommands() {
            path.push(member.get_name());
            walk(member, path, see);
            path.pop();
        }
    }

    #[test]
    fn every_command_has_a_usage_and_a_place() {
        for root in [tree(), utl::tree()] {
            root.clone().debug_assert();
            let mut count = 0;
            walk(&root, &mut Vec::new(), &mut |path| {
                count += 1;
                let text = usage::text(&root, path);
                let name = if path.is_empty() { root.get_name().to_owned() } else { path.join(" ") };
                assert!(text.starts_with(&format!("NAME:\n\t{name} - ")), "{text}");
                assert!(text.contains("\nOPTIONS:\n"), "{text}");
            });
            assert!(count > 10);
        }
    }

    #[test]
    fn the_environment_stands_for_flags() {
        let parse = |line: &str| tree().try_get_matches_from(line.split(' ')).unwrap();
        let variable = |name: &str| match name {
            "ETCDCTL_ENDPOINTS" => Some("a:1,b:2".to_owned()),
            "ETCDCTL_CERT" => Some(String::new()),
            _ => None,
        };
        let found = global::from_environment(&parse("get a"), &variable).unwrap();
        assert_eq!(found, ["--endpoints=a:1,b:2"]);
        let matches = parse(&format!("{} get a", found[0]));
        let global = Global::from_matches(innermost(&matches).1).unwrap();
        assert_eq!(global.endpoints, ["a:1", "b:2"]);
        let failure = global::from_environment(&parse("get a --endpoints c:3"), &variable).unwrap_err();
        assert!(failure.text.starts_with("conflicting environment variable \"ETCDCTL_ENDPOINTS\" is shadowed"), "{}", failure.text);
    }

    #[test]
    fn complaints() {
        let check = |line: &str, expected: &str| {
            let words: Vec<OsString> = line.split(' ').map(OsString::from).collect();
            assert_eq!(parse(&tree(), &words).unwrap_err(), Failure::error(expected));
        };
        check("get a --odd", "unknown flag: --odd");
        check("get a --odd=1", "unknown flag: --odd");
        check("put a -1", "unknown shorthand flag: '1' in -1");
        check("get a --limit x", "invalid argument \"x\" for \"--limit\" flag: strconv.ParseInt: parsing \"x\": invalid syntax");
        check("get a --limit", "flag needs an argument: --limit");
        check("fly", "unknown command \"fly\" for \"etcdctl\"\nRun 'etcdctl --help' for usage.");
    }
}
