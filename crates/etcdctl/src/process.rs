//! How programs that `watch` and `lock` run are said to have ended, in Go's words. Runs none.

use std::ffi::OsStr;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use crate::connection::go_error;
use crate::go;

pub fn ended(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(signal)) => format!("signal: {}", signal_name(signal)),
        (None, None) => "exit status unknown".into(),
    }
}

pub fn not_started(program: &OsStr, error: &std::io::Error) -> String {
    let shown = go::quote(program.as_encoded_bytes());
    if error.kind() == std::io::ErrorKind::NotFound && !program.as_encoded_bytes().contains(&b'/') {
        return format!("exec: {shown}: executable file not found in $PATH");
    }
    format!("fork/exec {}: {}", program.to_string_lossy(), go_error(error))
}

fn signal_name(signal: i32) -> String {
    match signal {
        1 => "hangup".into(),
        2 => "interrupt".into(),
        3 => "quit".into(),
        6 => "aborted".into(),
        9 => "killed".into(),
        11 => "segmentation fault".into(),
        15 => "terminated".into(),
        other => format!("signal {other}"),
    }
}
