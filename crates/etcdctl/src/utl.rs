//! etcdutl: what is done with files while no server runs. A command of etcdctl that works on files is the same code. Touches no running server's folder.

use std::ffi::OsString;
use std::path::Path;

use clap::{ArgMatches, Command};
use etcd::snapshot::{self as files, HashKv};

use crate::exit::{Failure, Outcome};
use crate::flags::{command, group, int, number, string, text, texts};
use crate::printer::json::Object;
use crate::printer::{Answer, Format, Known, Page, Printer, Style, Table, say_line};
use crate::{API_VERSION, VERSION, completion, innermost, is_answered, parse, root, snapshot};

pub fn tree() -> Command {
    let members = vec![snapshot::status_command(), snapshot::restore_command()];
    let defrag = command("defrag", "defrag --data-dir <dir>", "Defragments the storage of the etcd");
    root("etcdutl", "An administrative command line tool for etcd3.")
        .arg(text("write-out", "simple", "set the output format (fields, json, protobuf, simple, table)").short('w').global(true))
        .subcommands([
            group("snapshot", "snapshot <subcommand>", "Manages etcd node snapshots", members),
            defrag.arg(text("data-dir", "", "Required. Defragments a data directory not in use by etcd.")),
            command("hashkv", "hashkv <filename>", "Prints the KV history hash of a given file").arg(number(
                "rev",
                "0",
                "maximum revision to hash (default: latest revision)",
            )),
            completion::completion_command(),
            command("version", "version", "Prints the version of etcdutl"),
            command("help", "help [command]", "Help about any command"),
        ])
}

pub fn run(arguments: &[OsString]) -> Outcome {
    let root = tree();
    let matches = parse(&root, arguments)?;
    let (path, found) = innermost(&matches);
    if is_answered(&root, &path, found) {
        return Ok(());
    }
    let printer = Printer { format: Format::parse(&string(found, "write-out"))?, style: Style::default() };
    match path[..] {
        ["version"] => {
            say_line(&format!("etcdutl version: {VERSION}\nAPI version: {API_VERSION}"));
            Ok(())
        }
        ["snapshot", "status"] => snapshot::status(printer, found),
        ["snapshot", _] => snapshot::restore(found),
        ["hashkv"] => {
            let args = texts(found);
            let [path] = &args[..] else { return Err(Failure::bad_args("hashkv requires exactly one argument")) };
            let hash = files::hash_kv(Path::new(path), int(found, "rev")).map_err(|error| Failure::error(error.to_string()))?;
            printer.print(&hash)
        }
        _ => defrag(found),
    }
}

/// Our folders have nothing to defragment; those of etcd are etcd's to change.
pub fn defrag(matches: &ArgMatches) -> Outcome {
    let dir = string(matches, "data-dir");
    if dir.is_empty() {
        return Err(Failure::error("required flag(s) \"data-dir\" not set"));
    }
    if !Path::new(&dir).is_dir() {
        return Err(Failure::error(format!("open {dir}: no such directory")));
    }
    if Path::new(&dir).join("member/snap/db").exists() {
        return Err(Failure::error(format!("{dir} is a data directory of etcd itself: its own etcdutl defragments it")));
    }
    say_line(&format!("finished defragmenting directory[{dir}]: compaction has freed its space already"));
    Ok(())
}

impl Answer for HashKv {
    fn json(&self, _style: Style) -> Option<String> {
        let object = Object::new().raw("hash", &self.hash.to_string()).raw("hashRevision", &self.hash_revision.to_string());
        Some(object.raw("compactRevision", &self.compact_revision.to_string()).end())
    }

    fn fields(&self, page: &mut Page) -> Known {
        page.line(format!("\"Hash\" : {}", self.hash));
        page.line(format!("\"HashRevision\" : {}", self.hash_revision));
        page.line(format!("\"CompactRevision\" : {}", self.compact_revision));
        true
    }

    fn table(&self) -> Option<Table> {
        let row = vec![self.hash.to_string(), self.hash_revision.to_string(), self.compact_revision.to_string()];
        Some(Table { titles: &["hash", "hash revision", "compact revision"], rows: vec![row] })
    }
}
