//! The little that the store asks of a file system, as traits, so that a simulator can lose, tear and damage what was not synced.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::kv::KvError;

/// The store holds secrets and the hashes of passwords: its folders and files are their owner's alone, as etcd's are.
const FOLDER_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;

/// One flat folder of files.
pub(crate) trait Files: Send + Sync {
    fn list(&self) -> io::Result<Vec<String>>;
    /// Makes a file of `size` zero bytes whose space is reserved; replaces one of that name.
    fn create(&self, name: &str, size: u64) -> io::Result<Box<dyn File>>;
    fn open(&self, name: &str) -> io::Result<Box<dyn File>>;
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Makes creations, renames and removals durable.
    fn sync(&self) -> io::Result<()>;
    /// The name as a person finds it.
    fn path(&self, name: &str) -> String;
}

pub(crate) trait File: Send + Sync {
    fn len(&self) -> io::Result<u64>;
    fn set_len(&self, len: u64) -> io::Result<()>;
    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()>;
    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()>;
    fn sync(&self) -> io::Result<()>;
}

/// A folder of the operating system.
pub(crate) struct Folder {
    path: PathBuf,
}

impl Folder {
    /// Opens the folder, or makes it durably.
    pub fn open(path: &Path) -> io::Result<Self> {
        if path.is_dir() {
            let mode = fs::metadata(path)?.mode() & 0o777;
            if mode & !FOLDER_MODE != 0 {
                tracing::warn!(path = %path.display(), mode = format!("{mode:o}"), "others may look into this folder: chmod it to 700");
            }
        } else {
            if let Some(parent) = path.parent() {
                fs::create_dir_all(parent)?;
            }
            fs::DirBuilder::new().mode(FOLDER_MODE).create(path)?;
            for ancestor in path.ancestors().skip(1).take(2) {
                // The empty path is the present folder.
                let ancestor = if ancestor.as_os_str().is_empty() { Path::new(".") } else { ancestor };
                fs::File::open(ancestor)?.sync_all()?;
            }
        }
        Ok(Self { path: path.to_owned() })
    }
}

impl Files for Folder {
    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            names.extend(entry?.file_name().into_string());
        }
        Ok(names)
    }

    fn create(&self, name: &str, size: u64) -> io::Result<Box<dyn File>> {
        let path = self.path.join(name);
        let file = fs::File::options().read(true).write(true).create(true).truncate(true).mode(FILE_MODE).open(&path)?;
        if size > 0
            && let Err(error) = reserve(&file, size).and_then(|()| file.sync_all())
        {
            // A full disk gets its bytes back.
            fs::remove_file(&path)?;
            return Err(error);
        }
        Ok(Box::new(file))
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn File>> {
        Ok(Box::new(fs::File::options().read(true).write(true).open(self.path.join(name))?))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.path.join(from), self.path.join(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.path.join(name))
    }

    fn sync(&self) -> io::Result<()> {
        fs::File::open(&self.path)?.sync_all()
    }

    fn path(&self, name: &str) -> String {
        self.path.join(name).display().to_string()
    }
}

fn reserve(file: &fs::File, size: u64) -> io::Result<()> {
    match rustix::fs::fallocate(file, rustix::fs::FallocateFlags::empty(), 0, size) {
        // A file system without reservations: write the zeros.
        Err(rustix::io::Errno::OPNOTSUPP) => {
            let zeros = vec![0u8; 1 << 20];
            for offset in (0..size).step_by(zeros.len()) {
                let length = zeros.len().min((size - offset) as usize);
                file.write_all_at(&zeros[..length], offset)?;
            }
            Ok(())
        }
        done => Ok(done?),
    }
}

impl File for fs::File {
    fn len(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        fs::File::set_len(self, len)
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.read_exact_at(out, offset)
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.write_all_at(data, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }
}

/// Keeps other processes out of a data folder until it is dropped.
pub(crate) struct Lock(#[allow(dead_code, reason = "held, never read")] fs::File);

impl Lock {
    pub fn take(dir: &Path) -> Result<Self, KvError> {
        let path = dir.join("lock");
        let shown = path.display();
        let file = fs::File::options().read(true).write(true).create(true).truncate(false).mode(FILE_MODE).open(&path);
        let file = file.map_err(|error| KvError::Unavailable(format!("{shown} cannot be opened: {error}")))?;
        match file.try_lock() {
            Ok(()) => Ok(Self(file)),
            Err(fs::TryLockError::WouldBlock) => Err(KvError::Unavailable(format!(
                "the data folder {} is in use by another process, which holds {shown}: stop that process or use another folder",
                dir.display()
            ))),
            Err(fs::TryLockError::Error(error)) => Err(KvError::Unavailable(format!("{shown} cannot be locked: {error}"))),
        }
    }
}

/// Whether an error says that the disk (or the user's share of it) is full.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_is_its_owners_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("parent/member");
        let folder = Folder::open(&path).unwrap();
        folder.create("file", 10).unwrap();
        let _lock = Lock::take(&path).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o777;
        assert_eq!(mode(&path), FOLDER_MODE);
        assert_eq!(mode(&path.join("file")), FILE_MODE);
        assert_eq!(mode(&path.join("lock")), FILE_MODE);
        Folder::open(&path).unwrap();
    }
}

#[cfg(any(test, feature = "fuzz"))]
pub(crate) mod sim;
