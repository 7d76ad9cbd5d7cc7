//! emptyDir: a folder that everybody may write, or a tmpfs (pkg/volume/emptydir).

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use api::core::v1::EmptyDirVolumeSource;

use super::Job;

pub(super) fn plan(source: &EmptyDirVolumeSource) -> Result<Job, String> {
    let limit = source.size_limit.as_ref().map(|quantity| crate::pod::resources::units(Some(quantity)));
    let size_bytes = limit.and_then(|bytes| u64::try_from(bytes).ok()).filter(|bytes| *bytes > 0);
    match source.medium.as_deref().unwrap_or_default() {
        "" => Ok(Job::EmptyDir { memory: false, size_bytes }),
        "Memory" => Ok(Job::EmptyDir { memory: true, size_bytes }),
        medium => Err(format!("unknown storage medium {medium:?}: this kubelet supports \"\" and \"Memory\"")),
    }
}

/// Makes the folder, mounted as tmpfs where it is of memory. One that is up is left alone.
pub fn set_up(path: &Path, memory: bool, size_bytes: Option<u64>) -> io::Result<()> {
    if path.is_dir() && (!memory || host::mounts::is_mount_point(path)?) {
        return Ok(());
    }
    std::fs::create_dir_all(path)?;
    if memory {
        host::mounts::mount_tmpfs(path, size_bytes)?;
    }
    // Explicitly, because of the umask.
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o777))
}
