//! Mounts of volumes: tmpfs, bind mounts, what is mounted where. Decides nothing; every call blocks.

use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags};

fn failed(what: &str, path: &Path, error: impl Into<io::Error>) -> io::Error {
    let error = error.into();
    io::Error::new(error.kind(), format!("{what} {}: {error}", path.display()))
}

/// Mounts a tmpfs of at most `size_bytes` (`None`: half of the memory, the kernel's default).
pub fn mount_tmpfs(path: &Path, size_bytes: Option<u64>) -> io::Result<()> {
    let options = size_bytes.map(|bytes| format!("size={bytes}")).unwrap_or_default();
    let options = std::ffi::CString::new(options).expect("digits hold no NUL");
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    rustix::mount::mount("tmpfs", path, "tmpfs", flags, &*options).map_err(|error| failed("mount tmpfs on", path, error))
}

/// Binds the open file or folder onto `target`, which must exist and be of the same kind.
pub fn bind(source: impl AsFd, target: &Path, read_only: bool) -> io::Result<()> {
    use std::os::fd::AsRawFd;
    let from = format!("/proc/self/fd/{}", source.as_fd().as_raw_fd());
    rustix::mount::mount_bind_recursive(from.as_str(), target).map_err(|error| failed("bind onto", target, error))?;
    if read_only {
        rustix::mount::mount_remount(target, MountFlags::BIND | MountFlags::RDONLY, c"")
            .map_err(|error| failed("make read-only", target, error))?;
    }
    Ok(())
}

/// Makes the mount at `path`, and those below it, pass on what is mounted in it later.
pub fn make_shared(path: &Path) -> io::Result<()> {
    rustix::mount::mount_change(path, MountPropagationFlags::SHARED | MountPropagationFlags::REC)
        .map_err(|error| failed("make shared", path, error))
}

/// Unmounts, lazily where it is busy. Nothing mounted there is no error.
pub fn unmount(path: &Path) -> io::Result<()> {
    match rustix::mount::unmount(path, UnmountFlags::NOFOLLOW) {
        Ok(()) => Ok(()),
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOENT) => Ok(()),
        Err(rustix::io::Errno::BUSY) => {
            rustix::mount::unmount(path, UnmountFlags::NOFOLLOW | UnmountFlags::DETACH).map_err(|error| failed("unmount", path, error))
        }
        Err(error) => Err(failed("unmount", path, error)),
    }
}

/// Every mount point at or below `root`, the deepest first.
pub fn below(root: &Path) -> io::Result<Vec<PathBuf>> {
    let text = std::fs::read_to_string("/proc/self/mountinfo")?;
    let mut out: Vec<PathBuf> = mount_points(&text).filter(|path| path.starts_with(root)).collect();
    out.sort_by_key(|path| std::cmp::Reverse(path.components().count()));
    Ok(out)
}

/// Whether something is mounted exactly at `path`.
pub fn is_mount_point(path: &Path) -> io::Result<bool> {
    let text = std::fs::read_to_string("/proc/self/mountinfo")?;
    Ok(mount_points(&text).any(|mounted| mounted == path))
}

/// The fifth field of each line of mountinfo, with its octal escapes undone.
fn mount_points(text: &str) -> impl Iterator<Item = PathBuf> + '_ {
    text.lines().filter_map(|line| line.split(' ').nth(4)).map(|field| PathBuf::from(unescape(field)))
}

fn unescape(field: &str) -> String {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        let octal = tail.get(..3).filter(|_| byte == b'\\').and_then(|digits| std::str::from_utf8(digits).ok());
        match octal.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(value) => {
                bytes.push(value);
                rest = &tail[3..];
            }
            None => {
                bytes.push(byte);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Opens `relative` below `root` without ever leaving it, whatever symbolic links there are. The result names the file (`O_PATH`), it cannot be read.
pub fn open_beneath(root: &Path, relative: &Path) -> io::Result<std::os::fd::OwnedFd> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let folder = rustix::fs::open(root, flags | OFlags::DIRECTORY, Mode::empty()).map_err(|error| failed("open", root, error))?;
    let relative = if relative.as_os_str().is_empty() { Path::new(".") } else { relative };
    rustix::fs::openat2(&folder, relative, flags, Mode::empty(), ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS)
        .map_err(|error| failed("open", &root.join(relative), error))
}

/// Makes the folder `name` in the folder that `parent` is, which came from `open_beneath`. An existing one is no error.
pub fn make_dir_at(parent: impl AsFd, name: &Path, mode: u32) -> io::Result<()> {
    match rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(mode)) {
        Ok(()) | Err(rustix::io::Errno::EXIST) => Ok(()),
        Err(error) => Err(failed("mkdir", name, error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mountinfo_is_read() {
        let text = "36 35 98:0 /mnt1 /mnt/a\\040b rw,noatime master:1 - ext3 /dev/root rw\n37 35 0:1 / / rw - overlay o rw\n";
        let points: Vec<PathBuf> = mount_points(text).collect();
        assert_eq!(points, [PathBuf::from("/mnt/a b"), PathBuf::from("/")]);
        assert_eq!(unescape("a\\"), "a\\");
        assert_eq!(unescape("\\9é"), "\\9é");
    }

    #[test]
    fn nothing_leads_out_of_the_root() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("in")).unwrap();
        std::os::unix::fs::symlink("in", dir.path().join("link")).unwrap();
        std::os::unix::fs::symlink("/etc", dir.path().join("out")).unwrap();
        let check = |path: &str, ok: bool| assert_eq!(open_beneath(dir.path(), Path::new(path)).is_ok(), ok, "{path}");
        check("in", true);
        check("link", true);
        check("", true);
        check("out", false);
        check("../x", false);
        check("/etc", false);
    }
}
