//! fsGroup: gives a volume's files to a group (pkg/volume/volume_linux.go).

use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, lchown};
use std::path::Path;

/// Sets the group and its rights on everything below `root`. `on_mismatch`: only when the root has other ones.
pub fn set_group(root: &Path, group: Option<i64>, on_mismatch: bool) -> io::Result<()> {
    let Some(group) = group.and_then(|group| u32::try_from(group).ok()) else { return Ok(()) };
    if on_mismatch {
        let meta = std::fs::symlink_metadata(root)?;
        if meta.gid() == group && meta.mode() & 0o2070 == 0o2070 {
            return Ok(());
        }
    }
    apply(root, group)
}

fn apply(path: &Path, group: u32) -> io::Result<()> {
    let meta = std::fs::symlink_metadata(path)?;
    lchown(path, None, Some(group))?;
    if meta.file_type().is_symlink() {
        return Ok(());
    }
    let rights = if meta.is_dir() { 0o2770 } else { 0o660 };
    std::fs::set_permissions(path, std::fs::Permissions::from_mode((meta.mode() & 0o7777) | rights))?;
    if meta.is_dir() {
        for entry in std::fs::read_dir(path)? {
            apply(&entry?.path(), group)?;
        }
    }
    Ok(())
}
