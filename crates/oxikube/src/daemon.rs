//! Background processes: start detached, find again by pid file, stop. A pid is only trusted when /proc says that it is the program we started.

use std::fs;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

/// Starts `command` in its own session, standard output and error appended to `log`, so that it outlives this process.
pub fn spawn_detached(command: &mut Command, log: &Path, pid_file: Option<&Path>) -> Result<std::process::Child> {
    let output = fs::OpenOptions::new().create(true).append(true).open(log).with_context(|| format!("opening {}", log.display()))?;
    command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
    // SAFETY: setsid and prctl are async-signal-safe and touch nothing of the parent.
    unsafe {
        command.pre_exec(|| {
            rustix::process::setsid()?;
            // Ours alone to do without (see main): a container runtime and its containers decide for themselves.
            rustix::thread::disable_transparent_huge_pages(false)?;
            Ok(())
        });
    }
    let child = command.spawn().with_context(|| format!("running {}", command.get_program().to_string_lossy()))?;
    if let Some(path) = pid_file {
        write_pid(path, child.id())?;
    }
    Ok(child)
}

pub fn write_pid(path: &Path, pid: u32) -> Result<()> {
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir).with_context(|| format!("making {}", dir.display()))?;
    }
    fs::write(path, format!("{pid}\n")).with_context(|| format!("writing {}", path.display()))
}

/// The pid in the file, if that process lives and its command line names `program`.
pub fn running(pid_file: &Path, program: &str) -> Option<Pid> {
    let pid: i32 = fs::read_to_string(pid_file).ok()?.trim().parse().ok()?;
    let command_line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let first = command_line.split(|byte| *byte == 0).next()?;
    let name = Path::new(std::str::from_utf8(first).ok()?).file_name()?.to_str()?.to_owned();
    let zombie = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?.rsplit(')').next()?.trim_start().starts_with('Z');
    if name == program && !zombie { Pid::from_raw(pid) } else { None }
}

/// SIGTERM, then SIGKILL after `grace`. False when nothing ran.
pub async fn stop(pid_file: &Path, program: &str, grace: Duration) -> Result<bool> {
    let Some(pid) = running(pid_file, program) else {
        remove_pid(pid_file);
        return Ok(false);
    };
    kill_process(pid, Signal::TERM).with_context(|| format!("ending {program} ({})", pid.as_raw_nonzero()))?;
    let started = base::clock::monotonic();
    let mut killed = false;
    while running(pid_file, program).is_some() {
        if !killed && started.elapsed() > grace {
            kill_process(pid, Signal::KILL).with_context(|| format!("killing {program} ({})", pid.as_raw_nonzero()))?;
            killed = true;
        }
        if started.elapsed() > grace + Duration::from_secs(10) {
            bail!("{program} ({}) does not end", pid.as_raw_nonzero());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    remove_pid(pid_file);
    Ok(true)
}

pub fn remove_pid(pid_file: &Path) {
    if let Err(error) = fs::remove_file(pid_file)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        tracing::warn!(file = %pid_file.display(), %error, "a pid file stays behind");
    }
}

/// The last lines of a log, for an error message.
pub fn tail(path: &Path, lines: usize) -> String {
    let read = || -> std::io::Result<String> {
        let mut file = fs::File::open(path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(16_384)))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    match read() {
        Ok(text) => {
            let all: Vec<&str> = text.lines().collect();
            all[all.len().saturating_sub(lines)..].join("\n")
        }
        Err(error) => format!("({} cannot be read: {error})", path.display()),
    }
}
