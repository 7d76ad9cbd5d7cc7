//! Passwords from a person: asked for on the terminal without showing what is typed, or read from standard input. Keeps none.

use std::io::{BufRead, IsTerminal};

use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};

use crate::exit::{Failure, Outcome};
use crate::printer::say;

pub fn ask_password(prompt: &str) -> Outcome<String> {
    say(prompt.as_bytes());
    let stdin = std::io::stdin();
    let silent = stdin.is_terminal().then(|| Silent::start(&stdin)).flatten();
    let line = read_line();
    // What ended the line was not shown.
    say(b"\n");
    drop(silent);
    line.map_err(|error| Failure::bad_args(format!("failed to ask password: {error}")))
}

/// The first word on standard input, as `fmt.Scanf("%s")` takes it.
pub fn read_word() -> Outcome<String> {
    let line = read_line().map_err(|error| Failure::error(error.to_string()))?;
    Ok(line.split_whitespace().next().unwrap_or_default().to_owned())
}

fn read_line() -> std::io::Result<String> {
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line)?;
    Ok(line.trim_end_matches(['\n', '\r']).to_owned())
}

/// The terminal shows nothing of what is typed until this is dropped.
struct Silent<'a> {
    terminal: &'a std::io::Stdin,
    before: rustix::termios::Termios,
}

impl<'a> Silent<'a> {
    fn start(terminal: &'a std::io::Stdin) -> Option<Self> {
        let before = tcgetattr(terminal).ok()?;
        let mut quiet = before.clone();
        quiet.local_modes.remove(LocalModes::ECHO);
        tcsetattr(terminal, OptionalActions::Now, &quiet).ok()?;
        Some(Self { terminal, before })
    }
}

impl Drop for Silent<'_> {
    fn drop(&mut self) {
        if let Err(error) = tcsetattr(self.terminal, OptionalActions::Now, &self.before) {
            eprintln!("Error: the terminal cannot be set back: {error}");
        }
    }
}
