//! Reading and atomic writing of the files of a PKI. Must never leave a half-written file, nor a key that others can read.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use rand::Rng;

use crate::{Error, Result};

/// Modes as kubeadm sets them.
pub const KEY_MODE: u32 = 0o600;
pub const CERTIFICATE_MODE: u32 = 0o644;

fn io(path: &Path) -> impl Fn(std::io::Error) -> Error + '_ {
    move |source| Error::Io { path: path.to_owned(), source }
}

/// The text of a file; `None` when there is none.
pub fn read(path: &Path) -> Result<Option<String>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(io(path)(error)),
    }
}

/// The text of a file that must be there.
pub fn read_required(path: &Path) -> Result<String> {
    fs::read_to_string(path).map_err(io(path))
}

/// Writes beside `path`, syncs, renames. Creates missing folders (0755).
pub fn write(path: &Path, content: &[u8], mode: u32) -> Result<()> {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::DirBuilder::new().recursive(true).mode(0o755).create(folder).map_err(io(folder))?;
    let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    let draft = folder.join(format!(".{name}.{:08x}", rand::rng().random::<u32>()));
    let written = write_draft(&draft, content, mode).and_then(|()| fs::rename(&draft, path));
    if let Err(error) = written {
        // The error that counts is the first one; a draft that cannot be removed either does no harm.
        let _ = fs::remove_file(&draft);
        return Err(io(path)(error));
    }
    File::open(folder).and_then(|f| f.sync_all()).map_err(io(folder))
}

fn write_draft(draft: &Path, content: &[u8], mode: u32) -> std::io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(draft)?;
    file.write_all(content)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn writes_with_mode_and_leaves_no_draft() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b/sa.key");
        write(&path, b"one", KEY_MODE).unwrap();
        write(&path, b"two", KEY_MODE).unwrap();
        assert_eq!(read(&path).unwrap().as_deref(), Some("two"));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
        assert_eq!(read(&dir.path().join("none")).unwrap(), None);
    }
}
