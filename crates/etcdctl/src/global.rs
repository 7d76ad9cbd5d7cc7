//! The flags that all commands have, and the environment variables that stand for them (etcdctl/ctlv3/ctl.go, pkg/flags). Connects to nothing.

use std::time::Duration;

use clap::{Arg, ArgAction, ArgMatches};

use crate::exit::{Failure, Outcome};
use crate::flags::{self, is_on, period, string, switch, switch_from, text, time};
use crate::printer::{Format, Printer, Style};

/// Environment variables are the flags' names in capitals behind this.
const PREFIX: &str = "ETCDCTL_";

pub fn args() -> Vec<Arg> {
    vec![
        Arg::new("endpoints")
            .long("endpoints")
            .help("gRPC endpoints")
            .default_value("127.0.0.1:2379")
            .value_delimiter(',')
            .action(ArgAction::Append),
        switch("debug", "enable client-side debug logging"),
        text("write-out", "simple", "set the output format (fields, json, protobuf, simple, table)").short('w'),
        switch("hex", "print byte strings as hex encoded strings"),
        period("dial-timeout", "2s", "dial timeout for client connections"),
        period("command-timeout", "5s", "timeout for short running command (excluding dial timeout)"),
        period("keepalive-time", "2s", "keepalive time for client connections"),
        period("keepalive-timeout", "6s", "keepalive timeout for client connections"),
        switch_from("insecure-transport", "true", "disable transport security for client connections"),
        switch_from("insecure-discovery", "true", "accept insecure SRV records describing cluster endpoints"),
        switch(
            "insecure-skip-tls-verify",
            "skip server certificate verification (CAUTION: this option should be enabled only for testing purposes)",
        ),
        text("cert", "", "identify secure client using this TLS certificate file"),
        text("key", "", "identify secure client using this TLS key file"),
        text("cacert", "", "verify certificates of TLS-enabled secure servers using this CA bundle"),
        text("user", "", "username[:password] for authentication (prompt if password is not supplied)"),
        text("password", "", "password for authentication (if this option is used, --user option shouldn't include password)"),
        text("discovery-srv", "", "domain name to query for SRV records describing cluster endpoints").short('d'),
        text("discovery-srv-name", "", "service name to query when using DNS discovery"),
    ]
}

/// What the flags say.
#[derive(Clone, Debug)]
pub struct Global {
    pub endpoints: Vec<String>,
    pub dial_timeout: Duration,
    pub command_timeout: Duration,
    /// Whether somebody asked for that timeout: some commands have none by default.
    pub command_timeout_given: bool,
    pub keepalive: (Duration, Duration),
    pub tls: TlsFlags,
    pub user: String,
    pub password: String,
    pub discovery_srv: String,
    pub discovery_srv_name: String,
    pub insecure_discovery: bool,
    pub debug: bool,
}

#[derive(Clone, Debug, Default)]
pub struct TlsFlags {
    pub cert: String,
    pub key: String,
    pub cacert: String,
    pub insecure_transport: bool,
    pub skip_verify: bool,
}

impl Global {
    pub fn from_matches(matches: &ArgMatches) -> Outcome<Self> {
        for name in ["cert", "key", "cacert"] {
            if flags::is_given(matches, name) && string(matches, name).is_empty() {
                return Err(Failure::bad_args(format!("empty string is passed to --{name} option")));
            }
        }
        Ok(Self {
            endpoints: matches.get_many::<String>("endpoints").into_iter().flatten().cloned().collect(),
            dial_timeout: time(matches, "dial-timeout"),
            command_timeout: time(matches, "command-timeout"),
            command_timeout_given: flags::is_given(matches, "command-timeout"),
            keepalive: (time(matches, "keepalive-time"), time(matches, "keepalive-timeout")),
            tls: TlsFlags {
                cert: string(matches, "cert"),
                key: string(matches, "key"),
                cacert: string(matches, "cacert"),
                insecure_transport: is_on(matches, "insecure-transport"),
                skip_verify: is_on(matches, "insecure-skip-tls-verify"),
            },
            user: string(matches, "user"),
            password: string(matches, "password"),
            discovery_srv: string(matches, "discovery-srv"),
            discovery_srv_name: string(matches, "discovery-srv-name"),
            insecure_discovery: is_on(matches, "insecure-discovery"),
            debug: is_on(matches, "debug"),
        })
    }
}

pub fn printer(matches: &ArgMatches) -> Outcome<Printer> {
    let style = Style { hex: is_on(matches, "hex"), value_only: false };
    Ok(Printer { format: Format::parse(&string(matches, "write-out"))?, style })
}

/// The variables that are set and say something, as flags. One that contradicts a flag on the command line is an error, as in upstream.
pub fn from_environment(matches: &ArgMatches, variable: &dyn Fn(&str) -> Option<String>) -> Outcome<Vec<String>> {
    let mut found = Vec::new();
    for arg in args() {
        let name = arg.get_id().as_str();
        let key = format!("{PREFIX}{}", name.to_uppercase().replace('-', "_"));
        let Some(value) = variable(&key).filter(|value| !value.is_empty()) else { continue };
        if flags::is_given(matches, name) {
            return Err(Failure::error(format!(
                "conflicting environment variable {key:?} is shadowed by corresponding command-line flag (either unset environment variable or \
                 disable flag)"
            )));
        }
        found.push(format!("--{name}={value}"));
    }
    Ok(found)
}

/// What `--debug` tells before the command runs.
pub fn describe(matches: &ArgMatches) {
    for arg in args() {
        let name = arg.get_id().as_str();
        let raw = matches.get_raw(name).into_iter().flatten().map(|value| value.to_string_lossy().into_owned());
        eprintln!("{PREFIX}{}={}", name.to_uppercase().replace('-', "_"), raw.collect::<Vec<_>>().join(","));
    }
}
