//! Reading: the buckets of a file and their entries in the order of keys, a page at a time.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use bytes::{Bytes, BytesMut};

use crate::Error;
use crate::page::{BUCKET_HEADER, FIRST_PAGE, HEADER, META_BYTES, Meta, Page, u16_at, u32_at, u64_at};

/// A tree of pages with two children each would be that deep with 2^48 pages.
pub(crate) const MAX_DEPTH: usize = 48;
/// A page with its overflow holds at most four values unless it is small, so that only a damaged number is above this.
const MAX_PAGE_BYTES: u64 = 1 << 30;

/// What a database is read from.
pub trait Source {
    fn len(&self) -> io::Result<u64>;
    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()>;

    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
}

impl Source for File {
    fn len(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.read_exact_at(out, offset)
    }
}

impl Source for Vec<u8> {
    fn len(&self) -> io::Result<u64> {
        Ok(self.as_slice().len() as u64)
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let bytes = self.get(start..).and_then(|rest| rest.get(..out.len())).ok_or(io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(bytes);
        Ok(())
    }
}

/// A database file as its last complete transaction left it. Bytes after its last page are ignored.
#[derive(Debug)]
pub struct Database<S = File> {
    source: S,
    pub(crate) meta: Meta,
}

impl Database<File> {
    pub fn open(path: &Path) -> Result<Self, Error> {
        Self::new(File::open(path)?)
    }
}

impl<S: Source> Database<S> {
    pub fn new(source: S) -> Result<Self, Error> {
        let len = source.len()?;
        let read = |offset: u64| -> Result<Option<Meta>, Error> {
            let mut bytes = [0; HEADER + META_BYTES];
            if offset + bytes.len() as u64 > len {
                return Ok(None);
            }
            source.read_at(offset, &mut bytes)?;
            Ok(Meta::decode(&bytes[HEADER..]))
        };
        let first = read(0)?;
        let mut second = None;
        // Without the first meta page the size of pages is not known.
        let sizes = first.map_or(10..25, |meta| meta.page_size.trailing_zeros()..meta.page_size.trailing_zeros() + 1);
        for shift in sizes {
            if second.is_none() {
                second = read(1 << shift)?.filter(|meta| meta.page_size == 1 << shift);
            }
        }
        let meta = first.into_iter().chain(second).max_by_key(|meta| meta.transaction).ok_or(Error::Invalid)?;
        let expected = meta.pages.checked_mul(u64::from(meta.page_size)).ok_or(Error::Invalid)?;
        if len < expected {
            return Err(Error::Short { len, expected });
        }
        Ok(Self { source, meta })
    }

    /// Bytes of all pages that were ever used.
    pub fn size_bytes(&self) -> u64 {
        self.meta.pages * u64::from(self.meta.page_size)
    }

    pub fn page_size(&self) -> u32 {
        self.meta.page_size
    }

    /// The bucket that holds all others.
    pub fn root(&self) -> Bucket<'_, S> {
        Bucket { database: self, root: Root::Page(self.meta.root) }
    }

    pub(crate) fn page(&self, id: u64) -> Result<Page, Error> {
        self.pages_of(id).and_then(|data| Page::parse(data).map_err(|reason| Error::Page { page: id, reason }))
    }

    /// A page with its overflow.
    pub(crate) fn pages_of(&self, id: u64) -> Result<Bytes, Error> {
        let fault = |reason| Error::Page { page: id, reason };
        if id < FIRST_PAGE || id >= self.meta.pages {
            return Err(fault("it is referred to but outside of the file"));
        }
        let size = u64::from(self.meta.page_size);
        let mut data = BytesMut::zeroed(self.meta.page_size as usize);
        self.source.read_at(id * size, &mut data)?;
        if u64_at(&data, 0) != id {
            return Err(fault("its header has another number"));
        }
        let overflow = u64::from(u32_at(&data, 12));
        if overflow >= self.meta.pages - id {
            return Err(fault("its overflow is outside of the file"));
        }
        let bytes = (overflow + 1) * size;
        if bytes > MAX_PAGE_BYTES {
            return Err(fault("it is larger than 1 GiB"));
        }
        if overflow > 0 {
            data.resize(usize::try_from(bytes).map_err(|_| fault("it does not fit into memory"))?, 0);
            self.source.read_at((id + 1) * size, &mut data[self.meta.page_size as usize..])?;
        }
        Ok(data.freeze())
    }
}

#[derive(Clone, Debug)]
pub(crate) enum Root {
    Page(u64),
    /// A small bucket is a page inside of its value.
    Inline(Page),
}

/// A sorted map of keys to values and further buckets.
#[derive(Debug)]
pub struct Bucket<'a, S = File> {
    database: &'a Database<S>,
    pub(crate) root: Root,
}

impl<S> Clone for Bucket<'_, S> {
    fn clone(&self) -> Self {
        Self { database: self.database, root: self.root.clone() }
    }
}

#[derive(Clone, Debug)]
pub enum Value<'a, S = File> {
    Bytes(Bytes),
    Bucket(Bucket<'a, S>),
}

/// Keys and values share the memory of their page.
#[derive(Clone, Debug)]
pub struct Entry<'a, S = File> {
    pub key: Bytes,
    pub value: Value<'a, S>,
}

impl<'a, S: Source> Bucket<'a, S> {
    /// All entries in the order of their keys. Ends after an error.
    pub fn entries(&self) -> Entries<'a, S> {
        Entries { database: self.database, start: Some(self.root.clone()), path: Vec::new(), last: None }
    }

    /// The value of a key that is no bucket.
    pub fn get(&self, key: &[u8]) -> Result<Option<Bytes>, Error> {
        Ok(self.find(key)?.and_then(|value| if let Value::Bytes(bytes) = value { Some(bytes) } else { None }))
    }

    pub fn bucket(&self, name: &[u8]) -> Result<Option<Self>, Error> {
        Ok(self.find(name)?.and_then(|value| if let Value::Bucket(bucket) = value { Some(bucket) } else { None }))
    }

    /// The last of its keys.
    pub fn last_key(&self) -> Result<Option<Bytes>, Error> {
        let found = self.descend(|page| page.count().checked_sub(1))?;
        Ok(found.map(|(_, page, index)| page.shared_key(index)))
    }

    fn find(&self, key: &[u8]) -> Result<Option<Value<'a, S>>, Error> {
        match self.descend(|page| page.find(key))? {
            Some((id, page, index)) => value(self.database, id, &page, index).map(Some),
            None => Ok(None),
        }
    }

    /// Goes down to a leaf by what `choose` takes on each page; the leaf with its number and the element there.
    fn descend(&self, choose: impl Fn(&Page) -> Option<usize>) -> Result<Option<(u64, Page, usize)>, Error> {
        let mut id = 0;
        let mut page = match &self.root {
            Root::Inline(page) => page.clone(),
            Root::Page(root) => {
                id = *root;
                self.database.page(id)?
            }
        };
        for _ in 0..MAX_DEPTH {
            let Some(index) = choose(&page) else { return Ok(None) };
            if page.is_leaf() {
                return Ok(Some((id, page, index)));
            }
            id = page.child(index);
            page = self.database.page(id)?;
        }
        Err(too_deep(id))
    }
}

/// The value of an element of the leaf `page`, which has the number `id`.
pub(crate) fn value<'a, S>(database: &'a Database<S>, id: u64, page: &Page, index: usize) -> Result<Value<'a, S>, Error> {
    let bytes = page.value(index);
    if !page.is_bucket(index) {
        return Ok(Value::Bytes(bytes));
    }
    let fault = |reason| Error::Page { page: id, reason };
    if bytes.len() < BUCKET_HEADER {
        return Err(fault("a bucket in it has no header"));
    }
    let root = match u64_at(&bytes, 0) {
        0 => {
            let page = Page::parse(bytes.slice(BUCKET_HEADER..)).map_err(fault)?;
            if !page.is_leaf() {
                return Err(fault("a bucket in it is neither a leaf nor has a page"));
            }
            Root::Inline(page)
        }
        root => Root::Page(root),
    };
    Ok(Value::Bucket(Bucket { database, root }))
}

fn too_deep(page: u64) -> Error {
    Error::Page { page, reason: "it lies deeper than a tree can be: the pages refer to each other in a circle" }
}

#[derive(Debug)]
struct Frame {
    id: u64,
    page: Page,
    next: usize,
}

/// Walks a bucket. Keys strictly grow on the way, so that no page is met twice.
#[derive(Debug)]
pub struct Entries<'a, S = File> {
    database: &'a Database<S>,
    /// The root, until the walk has begun.
    start: Option<Root>,
    /// From the root to the present leaf.
    path: Vec<Frame>,
    last: Option<Bytes>,
}

impl<'a, S: Source> Iterator for Entries<'a, S> {
    type Item = Result<Entry<'a, S>, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let entry = self.step().transpose();
        if !matches!(entry, Some(Ok(_))) {
            self.path.clear();
        }
        entry
    }
}

impl<'a, S: Source> Entries<'a, S> {
    fn step(&mut self) -> Result<Option<Entry<'a, S>>, Error> {
        match self.start.take() {
            None => {}
            Some(Root::Inline(page)) => self.path.push(Frame { id: 0, page, next: 0 }),
            Some(Root::Page(id)) => self.path.push(Frame { id, page: self.database.page(id)?, next: 0 }),
        }
        while let Some(frame) = self.path.last_mut() {
            let index = frame.next;
            if index == frame.page.count() {
                self.path.pop();
                continue;
            }
            frame.next += 1;
            if frame.page.is_leaf() {
                let key = frame.page.shared_key(index);
                if self.last.as_ref().is_some_and(|last| *last >= key) {
                    return Err(Error::Page { page: frame.id, reason: "its keys are not above those of the page before" });
                }
                let value = value(self.database, frame.id, &frame.page, index)?;
                self.last = Some(key.clone());
                return Ok(Some(Entry { key, value }));
            }
            let id = frame.page.child(index);
            if self.path.len() >= MAX_DEPTH {
                return Err(too_deep(id));
            }
            let page = self.database.page(id)?;
            if page.count() == 0 {
                return Err(Error::Page { page: id, reason: "it is empty but not a root" });
            }
            self.path.push(Frame { id, page, next: 0 });
        }
        Ok(None)
    }
}

/// The ids on the page of free pages.
pub(crate) fn freelist(data: &[u8]) -> Result<impl Iterator<Item = u64> + '_, &'static str> {
    if u16_at(data, 8) != crate::page::FREELIST {
        return Err("it should be the list of free pages and is not");
    }
    // A long list has its count in the place of the first number.
    let (count, start) = match u16_at(data, 10) {
        u16::MAX if data.len() >= HEADER + 8 => (u64_at(data, HEADER), HEADER + 8),
        count => (u64::from(count), HEADER),
    };
    let count =
        usize::try_from(count).ok().filter(|count| *count <= (data.len() - start) / 8).ok_or("its list of free pages does not fit")?;
    Ok((0..count).map(move |index| u64_at(data, start + index * 8)))
}
