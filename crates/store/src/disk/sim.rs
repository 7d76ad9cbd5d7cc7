//! A disk that forgets what was not synced: each page of it may or may not have reached the platter at a crash. For tests.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;

use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::{File, Files};

const PAGE: usize = 512;

#[derive(Default)]
struct Inode {
    data: Vec<u8>,
    /// What is safe.
    durable: Vec<u8>,
    dirty: BTreeSet<usize>,
}

impl Inode {
    fn sync(&mut self) {
        self.durable.resize(self.data.len(), 0);
        for page in std::mem::take(&mut self.dirty) {
            let range = page * PAGE..((page + 1) * PAGE).min(self.data.len());
            if range.start < range.end {
                self.durable[range.clone()].copy_from_slice(&self.data[range]);
            }
        }
    }

    fn crash(&mut self, rng: &mut StdRng) {
        match rng.random_range(0..4) {
            0 => self.dirty.clear(),
            1 => {}
            2 => {
                let written = rng.random_range(0..=self.dirty.len());
                self.dirty = self.dirty.iter().copied().take(written).collect();
            }
            _ => self.dirty.retain(|_| rng.random_bool(0.5)),
        }
        // A new size is journalled apart from the data: it may be lost alone.
        if self.data.len() != self.durable.len() && rng.random_bool(0.5) {
            self.data.truncate(self.durable.len());
        }
        self.sync();
        self.data.clone_from(&self.durable);
    }
}

type Handle = Arc<Mutex<Inode>>;

#[derive(Default)]
struct Disk {
    names: BTreeMap<String, Handle>,
    durable_names: BTreeMap<String, Handle>,
    /// Grows with each change of the disk.
    operations: u64,
    /// The operation at which the power goes.
    power_off_at: Option<u64>,
    is_off: bool,
    /// Bytes that may still be reserved.
    free: Option<u64>,
    /// Writes fail with an I/O error.
    broken: bool,
}

/// A folder on a simulated disk. Clones are the same disk.
#[derive(Clone)]
pub(crate) struct SimFiles(Arc<Mutex<Disk>>);

fn power_off() -> io::Error {
    io::Error::other("the power is off")
}

impl SimFiles {
    pub fn new() -> Self {
        Self(Arc::default())
    }

    /// The power goes at the `count`th change from now.
    pub fn power_off_after(&self, count: u64) {
        let mut disk = self.0.lock();
        disk.power_off_at = Some(disk.operations + count);
    }

    /// The power goes now.
    pub fn power_off(&self) {
        self.0.lock().is_off = true;
    }

    pub fn is_off(&self) -> bool {
        self.0.lock().is_off
    }

    /// A sound disk with space, as someone has put in.
    pub fn heal(&self) {
        let mut disk = self.0.lock();
        disk.free = None;
        disk.broken = false;
    }

    /// The files that something was written to.
    pub fn used(&self) -> Vec<String> {
        let disk = self.0.lock();
        disk.names.iter().filter(|(_, inode)| inode.lock().data.iter().any(|byte| *byte != 0)).map(|(name, _)| name.clone()).collect()
    }

    pub fn set_free(&self, bytes: Option<u64>) {
        self.0.lock().free = bytes;
    }

    pub fn set_broken(&self, broken: bool) {
        self.0.lock().broken = broken;
    }

    /// The power comes back: what was synced is there, and a random part of the rest. Names made or removed and not synced come and go in order.
    pub fn restart(&self, seed: u64) {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut disk = self.0.lock();
        disk.power_off_at = None;
        disk.is_off = false;
        if rng.random_bool(0.5) {
            disk.names = disk.durable_names.clone();
        }
        disk.durable_names = disk.names.clone();
        for inode in disk.names.values() {
            inode.lock().crash(&mut rng);
        }
    }

    /// The bytes of a file, to damage them.
    pub fn edit<R>(&self, name: &str, edit: impl FnOnce(&mut Vec<u8>) -> R) -> R {
        let disk = self.0.lock();
        let mut inode = disk.names[name].lock();
        let result = edit(&mut inode.data);
        inode.durable = inode.data.clone();
        result
    }

    /// An independent disk with the same content.
    pub fn copy(&self) -> Self {
        let copy = Self::new();
        for (name, inode) in &self.0.lock().names {
            let data = inode.lock().data.clone();
            let inode = Handle::new(Mutex::new(Inode { durable: data.clone(), data, dirty: BTreeSet::new() }));
            copy.0.lock().names.insert(name.clone(), inode);
        }
        let names = copy.0.lock().names.clone();
        copy.0.lock().durable_names = names;
        copy
    }

    /// An independent disk as this one would be after a crash now and a restart.
    pub fn crashed_copy(&self, seed: u64) -> Self {
        let copy = Self::new();
        let mut copies: BTreeMap<*const Mutex<Inode>, Handle> = BTreeMap::new();
        let mut all = |names: &BTreeMap<String, Handle>| {
            let copied = names.iter().map(|(name, inode)| {
                let copy = copies.entry(Arc::as_ptr(inode)).or_insert_with(|| {
                    let Inode { data, durable, dirty } = &*inode.lock();
                    Handle::new(Mutex::new(Inode { data: data.clone(), durable: durable.clone(), dirty: dirty.clone() }))
                });
                (name.clone(), copy.clone())
            });
            copied.collect()
        };
        {
            let (from, mut to) = (self.0.lock(), copy.0.lock());
            (to.names, to.durable_names) = (all(&from.names), all(&from.durable_names));
        }
        copy.restart(seed);
        copy
    }

    fn change(&self) -> io::Result<parking_lot::MutexGuard<'_, Disk>> {
        let mut disk = self.0.lock();
        disk.operations += 1;
        if disk.is_off || disk.power_off_at.is_some_and(|at| disk.operations >= at) {
            disk.is_off = true;
            return Err(power_off());
        }
        if disk.broken {
            return Err(io::Error::other("the disk is broken"));
        }
        Ok(disk)
    }

    fn missing(name: &str) -> io::Error {
        io::Error::new(io::ErrorKind::NotFound, name.to_owned())
    }
}

impl Files for SimFiles {
    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.0.lock().names.keys().cloned().collect())
    }

    fn create(&self, name: &str, size: u64) -> io::Result<Box<dyn File>> {
        let mut disk = self.change()?;
        if let Some(free) = &mut disk.free {
            *free = free.checked_sub(size).ok_or_else(|| io::Error::from(io::ErrorKind::StorageFull))?;
        }
        let data = vec![0; size as usize];
        let inode = Handle::new(Mutex::new(Inode { durable: data.clone(), data, dirty: BTreeSet::new() }));
        disk.names.insert(name.to_owned(), inode.clone());
        Ok(Box::new(SimFile { disk: self.clone(), inode }))
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn File>> {
        let inode = self.0.lock().names.get(name).cloned().ok_or_else(|| Self::missing(name))?;
        Ok(Box::new(SimFile { disk: self.clone(), inode }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut disk = self.change()?;
        let inode = disk.names.remove(from).ok_or_else(|| Self::missing(from))?;
        disk.names.insert(to.to_owned(), inode);
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut disk = self.change()?;
        disk.names.remove(name).map(|_| ()).ok_or_else(|| Self::missing(name))
    }

    fn sync(&self) -> io::Result<()> {
        let mut disk = self.change()?;
        disk.durable_names = disk.names.clone();
        Ok(())
    }

    fn path(&self, name: &str) -> String {
        format!("sim/{name}")
    }
}

struct SimFile {
    disk: SimFiles,
    inode: Handle,
}

impl File for SimFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.inode.lock().data.len() as u64)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        drop(self.disk.change()?);
        let mut inode = self.inode.lock();
        let old = inode.data.len();
        inode.data.resize(len as usize, 0);
        inode.dirty.extend(old / PAGE..(len as usize).div_ceil(PAGE));
        Ok(())
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let inode = self.inode.lock();
        let from = inode.data.get(offset as usize..).and_then(|rest| rest.get(..out.len()));
        out.copy_from_slice(from.ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))?);
        Ok(())
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        if self.disk.is_off() {
            return Err(power_off());
        }
        let off = self.disk.change();
        let mut inode = self.inode.lock();
        // A write that the power cut still may have reached the disk in part.
        let start = offset as usize;
        let end = start + data.len();
        if inode.data.len() < end {
            inode.data.resize(end, 0);
        }
        inode.data[start..end].copy_from_slice(data);
        inode.dirty.extend(start / PAGE..end.div_ceil(PAGE));
        drop(off?);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        drop(self.disk.change()?);
        self.inode.lock().sync();
        Ok(())
    }
}
