//! subPath: a file or folder inside a volume, bound elsewhere so that links in the volume cannot lead out of it (pkg/volume/util/subpath).

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

/// Binds `relative` of the volume onto `target` and returns `target`. A missing folder is made, with the volume's mode.
pub fn prepare(volume: &Path, relative: &str, target: &Path, read_only: bool) -> Result<PathBuf, String> {
    let relative = Path::new(relative);
    if relative.is_absolute() || relative.components().any(|part| !matches!(part, Component::Normal(_) | Component::CurDir)) {
        return Err(format!("subPath {:?} must be a relative path without '..'", relative.display()));
    }
    bind(volume, relative, target, read_only).map_err(|error| error.to_string())?;
    Ok(target.to_owned())
}

fn bind(volume: &Path, relative: &Path, target: &Path, read_only: bool) -> io::Result<()> {
    let source = match host::mounts::open_beneath(volume, relative) {
        Ok(source) => source,
        Err(error) if error.kind() == io::ErrorKind::NotFound && !read_only => {
            make_dirs(volume, relative)?;
            host::mounts::open_beneath(volume, relative)?
        }
        Err(error) => return Err(error),
    };
    let meta = std::fs::File::from(source.try_clone()?).metadata()?;
    if let Ok(there) = std::fs::metadata(target) {
        if (there.dev(), there.ino()) == (meta.dev(), meta.ino()) {
            return Ok(());
        }
        // Bound to something that is not there any more (the volume's files were replaced).
        host::mounts::unmount(target)?;
    }
    if let Some(parent) = target.parent() {
        std::fs::create_dir_all(parent)?;
    }
    if meta.is_dir() {
        std::fs::create_dir_all(target)?;
    } else {
        std::fs::OpenOptions::new().create(true).append(true).open(target)?;
    }
    host::mounts::bind(&source, target, false)
}

/// Makes each missing folder, never through a link that leads out.
fn make_dirs(volume: &Path, relative: &Path) -> io::Result<()> {
    let mode = std::fs::metadata(volume)?.mode() & 0o7777;
    let mut done = PathBuf::new();
    for part in relative.components() {
        let Component::Normal(name) = part else { continue };
        let parent = host::mounts::open_beneath(volume, &done)?;
        host::mounts::make_dir_at(&parent, Path::new(name), mode)?;
        done.push(name);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_lead_out_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        for path in ["../x", "/x", "a/../../x"] {
            assert!(prepare(dir.path(), path, &dir.path().join("t"), false).is_err(), "{path}");
        }
    }

    #[test]
    fn missing_folders_are_made_inside() {
        let dir = tempfile::tempdir().unwrap();
        make_dirs(dir.path(), Path::new("a/b")).unwrap();
        assert!(dir.path().join("a/b").is_dir());
        std::os::unix::fs::symlink("/tmp", dir.path().join("out")).unwrap();
        assert!(make_dirs(dir.path(), Path::new("out/x")).is_err());
    }
}
