//! hostPath: checks or makes what the type asks for (pkg/volume/hostpath).

use std::os::unix::fs::{DirBuilderExt, FileTypeExt, OpenOptionsExt};
use std::path::Path;

/// The error is the event's text.
pub fn check(path: &Path, kind: &str) -> Result<(), String> {
    let shown = path.display();
    let failed = |error: std::io::Error| format!("hostPath type check failed: {shown}: {error}");
    let found = std::fs::metadata(path).map(|meta| meta.file_type());
    let is = |test: fn(&std::fs::FileType) -> bool| found.as_ref().is_ok_and(test);
    let (holds, what) = match kind {
        "" => return Ok(()),
        "DirectoryOrCreate" if found.is_err() => {
            return std::fs::DirBuilder::new().recursive(true).mode(0o755).create(path).map_err(failed);
        }
        "FileOrCreate" if found.is_err() => {
            let mut options = std::fs::OpenOptions::new();
            return options.create_new(true).write(true).mode(0o644).open(path).map(drop).map_err(failed);
        }
        "Directory" | "DirectoryOrCreate" => (is(std::fs::FileType::is_dir), "directory"),
        "File" | "FileOrCreate" => (is(std::fs::FileType::is_file), "file"),
        "Socket" => (is(FileTypeExt::is_socket), "socket file"),
        "CharDevice" => (is(FileTypeExt::is_char_device), "character device"),
        "BlockDevice" => (is(FileTypeExt::is_block_device), "block device"),
        other => return Err(format!("{other} is an invalid volume type")),
    };
    if holds { Ok(()) } else { Err(format!("hostPath type check failed: {shown} is not a {what}")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("f");
        std::fs::write(&file, "").unwrap();
        let check = |path: &Path, kind: &str, ok: bool| assert_eq!(check(path, kind).is_ok(), ok, "{} {kind}", path.display());
        check(dir.path(), "Directory", true);
        check(dir.path(), "File", false);
        check(&file, "File", true);
        check(&file, "DirectoryOrCreate", false);
        check(&dir.path().join("no"), "Directory", false);
        check(&dir.path().join("no"), "", true);
        check(&dir.path().join("new/dir"), "DirectoryOrCreate", true);
        check(&dir.path().join("newfile"), "FileOrCreate", true);
        check(Path::new("/dev/null"), "CharDevice", true);
        check(&file, "Socket", false);
        check(&file, "Nonsense", false);
    }
}
