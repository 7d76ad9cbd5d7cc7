//! Writes a volume's files so that a reader sees all of one version: a folder per version and a `..data` link that moves
//! (pkg/volume/util/atomic_writer.go gives the layout, which pods rely on).

use std::collections::BTreeSet;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};

use super::payload::{Payload, valid_path};

const DATA: &str = "..data";
const NEW_DATA: &str = "..data_tmp";

/// Brings the folder to the payload; false when it was there already.
pub fn write(folder: &Path, payload: &Payload) -> io::Result<bool> {
    if let Some(path) = payload.keys().find(|path| !valid_path(path)) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("invalid path in volume: {path:?}")));
    }
    let old = std::fs::read_link(folder.join(DATA)).ok();
    if let Some(old) = &old
        && holds(&folder.join(old), payload)?
    {
        make_links(folder, payload)?;
        return Ok(false);
    }
    let version = new_version(folder)?;
    for (path, file) in payload {
        let target = version.join(path);
        if let Some(parent) = target.parent() {
            std::fs::create_dir_all(parent)?;
        }
        std::fs::write(&target, &file.bytes)?;
        std::fs::set_permissions(&target, std::fs::Permissions::from_mode(file.mode))?;
        if let Some(uid) = file.uid {
            chown(&target, Some(uid), None)?;
        }
    }
    let temporary = folder.join(NEW_DATA);
    remove_if_there(&temporary)?;
    symlink(version.file_name().unwrap_or_default(), &temporary)?;
    std::fs::rename(&temporary, folder.join(DATA))?;
    make_links(folder, payload)?;
    remove_stale_links(folder, payload)?;
    if let Some(old) = old {
        std::fs::remove_dir_all(folder.join(old))?;
    }
    Ok(true)
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// `..2006_01_02_15_04_05.123456789`, as upstream names versions.
fn new_version(folder: &Path) -> io::Result<PathBuf> {
    let stamp = base::clock::now().strftime("..%Y_%m_%d_%H_%M_%S.").to_string();
    let path = folder.join(format!("{stamp}{}", rand::random::<u32>()));
    std::fs::create_dir(&path)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755))?;
    Ok(path)
}

/// Whether a version has these files with these bytes, and no others.
fn holds(version: &Path, payload: &Payload) -> io::Result<bool> {
    let mut found = BTreeSet::new();
    if version.is_dir() {
        list(version, version, &mut found)?;
    }
    if found.len() != payload.len() {
        return Ok(false);
    }
    for (path, file) in payload {
        if !found.contains(path) || std::fs::read(version.join(path))? != file.bytes {
            return Ok(false);
        }
        // An fsGroup may have widened the mode: only what is missing counts.
        let mode = std::fs::symlink_metadata(version.join(path))?.mode();
        if mode & file.mode != file.mode {
            return Ok(false);
        }
    }
    Ok(true)
}

fn list(root: &Path, folder: &Path, out: &mut BTreeSet<String>) -> io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            list(root, &entry.path(), out)?;
        } else if let Ok(path) = entry.path().strip_prefix(root) {
            out.insert(path.to_string_lossy().into_owned());
        }
    }
    Ok(())
}

fn first_part(path: &str) -> &str {
    path.split('/').next().unwrap_or(path)
}

fn make_links(folder: &Path, payload: &Payload) -> io::Result<()> {
    for name in payload.keys().map(|path| first_part(path)).collect::<BTreeSet<_>>() {
        match symlink(Path::new(DATA).join(name), folder.join(name)) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

fn remove_stale_links(folder: &Path, payload: &Payload) -> io::Result<()> {
    let wanted: BTreeSet<&str> = payload.keys().map(|path| first_part(path)).collect();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.file_type()?.is_symlink() && !name.starts_with("..") && !wanted.contains(name.as_str()) {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::payload::File;
    use super::*;

    fn payload(files: &[(&str, &str)]) -> Payload {
        files.iter().map(|(path, text)| ((*path).to_owned(), File { bytes: text.as_bytes().to_vec(), mode: 0o644, uid: None })).collect()
    }

    #[test]
    fn versions_replace_each_other() {
        let dir = tempfile::tempdir().unwrap();
        let read = |path: &str| std::fs::read_to_string(dir.path().join(path)).ok();
        assert!(write(dir.path(), &payload(&[("a", "1"), ("d/b", "2")])).unwrap());
        assert_eq!((read("a"), read("d/b")), (Some("1".into()), Some("2".into())));
        let first = std::fs::read_link(dir.path().join(DATA)).unwrap();
        assert!(!write(dir.path(), &payload(&[("a", "1"), ("d/b", "2")])).unwrap());
        assert_eq!(std::fs::read_link(dir.path().join(DATA)).unwrap(), first);
        assert!(write(dir.path(), &payload(&[("a", "3")])).unwrap());
        assert_eq!((read("a"), read("d/b")), (Some("3".into()), None));
        assert!(!dir.path().join(first).exists());
        assert!(std::fs::symlink_metadata(dir.path().join("d")).is_err());
    }

    #[test]
    fn nothing_is_written_outside() {
        let dir = tempfile::tempdir().unwrap();
        assert!(write(dir.path(), &payload(&[("../x", "1")])).is_err());
    }

    #[test]
    fn an_empty_payload_is_an_empty_volume() {
        let dir = tempfile::tempdir().unwrap();
        assert!(write(dir.path(), &Payload::new()).unwrap());
        assert!(!write(dir.path(), &Payload::new()).unwrap());
    }
}
