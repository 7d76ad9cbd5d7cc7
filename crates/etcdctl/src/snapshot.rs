//! `snapshot`: save a server's state into a file; what a file holds, and a data folder made from one, are `etcd::snapshot`'s. A file under its own name is
//! always whole: what is being written has another name.

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::{ArgMatches, Command};
use etcd::pb;
use etcd::snapshot::{self as files, RestoreOptions, Status};

use crate::connection::go_error;
use crate::exit::{self, Failure, Outcome};
use crate::flags::{command, group, int, is_on, number, string, switch, text, texts};
use crate::printer::json::Object;
use crate::printer::{Answer, Known, Page, Printer, Style, Table, say_line};
use crate::{Ctl, go};

/// A snapshot is whole pages and this checksum behind them.
const PAGE: u64 = 512;
const CHECKSUM: u64 = 32;

pub fn snapshot_command() -> Command {
    let members = vec![
        command("save", "save <filename>", "Stores an etcd node backend snapshot to a given file"),
        status_command().about("[deprecated] Gets backend snapshot status of a given file"),
        restore_command().long_about("Moved to `etcdutl snapshot restore ...`"),
    ];
    group("snapshot", "snapshot <subcommand>", "Manages etcd node snapshots", members)
}

pub fn status_command() -> Command {
    command("status", "status <filename>", "Gets backend snapshot status of a given file").long_about(
        "When --write-out is set to simple, this command prints out comma-separated status lists for each endpoint.\n\
         The items in the lists are hash, revision, total keys, total size.",
    )
}

pub fn restore_command() -> Command {
    command("restore", "restore <filename> [options]", "Restores an etcd member snapshot to an etcd directory").args([
        text("data-dir", "", "Path to the data directory"),
        text("wal-dir", "", "Path to the WAL directory (use --data-dir if none given)"),
        text("initial-cluster", "default=http://localhost:2380", "Initial cluster configuration for restore bootstrap"),
        text("initial-cluster-token", "etcd-cluster", "Initial cluster token for the etcd cluster during restore bootstrap"),
        text(
            "initial-advertise-peer-urls",
            "http://localhost:2380",
            "List of this member's peer URLs to advertise to the rest of the cluster",
        ),
        text("name", "default", "Human-readable name for this member"),
        switch("skip-hash-check", "Ignore snapshot integrity hash value (required if copied from data directory)"),
        number("bump-revision", "0", "How much to increase the latest revision after restore"),
        switch(
            "mark-compacted",
            "Mark the latest revision after restore as the point of scheduled compaction (required if --bump-revision > 0)",
        ),
    ])
}

pub async fn run(ctl: &Ctl, name: &str, matches: &ArgMatches) -> Outcome {
    match name {
        "save" => save(ctl, &texts(matches)).await,
        "status" => {
            eprintln!("Deprecated: Use `etcdutl snapshot status` instead.\n");
            status(ctl.printer, matches)
        }
        _ => {
            eprintln!("Deprecated: Use `etcdutl snapshot restore` instead.\n");
            restore(matches)
        }
    }
}

async fn save(ctl: &Ctl, args: &[String]) -> Outcome {
    let [path] = args else { return Err(Failure::bad_args("snapshot save expects one argument")) };
    if ctl.global.endpoints.len() != 1 {
        let text = format!("snapshot must be requested to one selected node, not multiple [{}]", ctl.global.endpoints.join(" "));
        return Err(Failure::new(exit::INTERRUPTED, text));
    }
    let part = PathBuf::from(format!("{path}.part"));
    let copy = copy(ctl, &part, Path::new(path));
    // Without a timeout that somebody asked for it takes as long as it takes.
    let outcome = if ctl.global.command_timeout_given {
        tokio::time::timeout(ctl.global.command_timeout, copy).await.unwrap_or_else(|_| Err(Failure::error(exit::DEADLINE)))
    } else {
        copy.await
    };
    if let Err(failure) = outcome {
        // Half a snapshot is of no use to anybody; it may also not be there.
        let _ = std::fs::remove_file(&part);
        return Err(failure.with_code(exit::INTERRUPTED));
    }
    say_line(&format!("Snapshot saved at {path}"));
    Ok(())
}

async fn copy(ctl: &Ctl, part: &Path, path: &Path) -> Outcome {
    use std::os::unix::fs::OpenOptionsExt;
    let fault = |what: &str, error: &std::io::Error| Failure::error(format!("could not {what} {} ({})", part.display(), go_error(error)));
    let channel = ctl.connect().await?;
    let mut pieces = ctl.within(channel.maintenance().snapshot(pb::SnapshotRequest {})).await?;
    let mut options = std::fs::OpenOptions::new();
    let file = options.create(true).truncate(true).write(true).mode(0o600).open(part);
    let shown = part.display();
    let mut file = file.map_err(|error| Failure::error(format!("could not open {shown} (open {shown}: {})", go_error(&error))))?;
    let mut size = 0;
    while let Some(piece) = pieces.message().await? {
        file.write_all(&piece.blob).map_err(|error| fault("write", &error))?;
        size += piece.blob.len() as u64;
    }
    if size % PAGE != CHECKSUM {
        return Err(Failure::error(format!("sha256 checksum not found [bytes: {size}]")));
    }
    file.sync_all().map_err(|error| fault("sync", &error))?;
    drop(file);
    std::fs::rename(part, path).map_err(|error| fault("rename", &error))?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::File::open(folder).and_then(|folder| folder.sync_all()).map_err(|error| fault("sync the folder of", &error))
}

pub fn status(printer: Printer, matches: &ArgMatches) -> Outcome {
    let args = texts(matches);
    let [path] = &args[..] else { return Err(Failure::bad_args("snapshot status requires exactly one argument")) };
    std::fs::metadata(path).map_err(|error| Failure::error(format!("stat {path}: {}", go_error(&error))))?;
    let status = files::status(Path::new(path)).map_err(|error| Failure::error(error.to_string()))?;
    printer.print(&status)
}

pub fn restore(matches: &ArgMatches) -> Outcome {
    let args = texts(matches);
    let [path] = &args[..] else { return Err(Failure::bad_args("snapshot restore requires exactly one argument")) };
    if !string(matches, "wal-dir").is_empty() {
        return Err(Failure::bad_args("--wal-dir is not supported: the log is part of the data directory"));
    }
    let (bump, mark_compacted) = (int(matches, "bump-revision"), is_on(matches, "mark-compacted"));
    if (bump > 0) != mark_compacted {
        return Err(Failure::bad_args("--mark-compacted required if --revision-bump > 0"));
    }
    let options = RestoreOptions {
        name: string(matches, "name"),
        data_dir: Some(string(matches, "data-dir")).filter(|dir| !dir.is_empty()).map(PathBuf::from),
        initial_cluster: string(matches, "initial-cluster"),
        initial_cluster_token: string(matches, "initial-cluster-token"),
        initial_advertise_peer_urls: string(matches, "initial-advertise-peer-urls"),
        skip_hash_check: is_on(matches, "skip-hash-check"),
        bump_revision: u64::try_from(bump).unwrap_or(0),
        mark_compacted,
    };
    std::fs::File::open(path).map_err(|error| Failure::error(format!("open {path}: {}", go_error(&error))))?;
    files::restore(Path::new(path), &options).map_err(|error| Failure::error(error.to_string()))
}

impl Answer for Status {
    fn simple(&self, _style: Style, page: &mut Page) -> Known {
        page.0.extend_from_slice(self.table().map(|table| table.lines()).unwrap_or_default().as_bytes());
        true
    }

    fn json(&self, _style: Style) -> Option<String> {
        let object = Object::new().raw("hash", &self.hash.to_string()).raw("revision", &self.revision.to_string());
        Some(object.raw("totalKey", &self.total_key.to_string()).raw("totalSize", &self.total_size.to_string()).end())
    }

    fn fields(&self, page: &mut Page) -> Known {
        page.line(format!("\"Hash\" : {}", self.hash));
        page.line(format!("\"Revision\" : {}", self.revision));
        page.line(format!("\"Keys\" : {}", self.total_key));
        page.line(format!("\"Size\" : {}", self.total_size));
        true
    }

    fn table(&self) -> Option<Table> {
        let row = vec![format!("{:x}", self.hash), self.revision.to_string(), self.total_key.to_string(), go::bytes(self.total_size)];
        Some(Table { titles: &["hash", "revision", "total keys", "total size"], rows: vec![row] })
    }
}
