//! Writing: trees from sorted keys, page after page. Pages are filled and split as bbolt does it (node.go), so that a database goes on well from the file.

use std::collections::VecDeque;
use std::io::{self, Write};

use bytes::Bytes;

use crate::Error;
use crate::page::{BRANCH, BUCKET, BUCKET_HEADER, ELEMENT, FIRST_PAGE, HEADER, LEAF, Meta, NO_FREELIST, put_header};

const MAX_KEY_BYTES: usize = 32_768;
const MAX_VALUE_BYTES: usize = (1 << 31) - 2;
/// A page that is split keeps so many elements at least, and leaves as many.
const MIN_ELEMENTS: usize = 2;
/// How full pages get that are written in order of keys; etcd sets this for its own.
const FILL_PERCENT: usize = 90;

#[derive(Debug)]
struct Element {
    /// Flags of a leaf's element.
    flags: u32,
    key: Bytes,
    value: Bytes,
    /// Page of a branch's element.
    child: u64,
}

impl Element {
    fn size(&self) -> usize {
        ELEMENT + self.key.len() + self.value.len()
    }
}

/// The elements of one height that are not in a page yet.
#[derive(Debug, Default)]
struct Level {
    elements: VecDeque<Element>,
    /// Of a page that would hold them all.
    size: usize,
}

impl Level {
    fn push(&mut self, element: Element) {
        self.size += element.size();
        self.elements.push_back(element);
    }

    fn page_bytes(&self) -> usize {
        HEADER + self.size
    }

    /// How many elements the next page gets; `None` when all of them fit into one, or that is not known before more come.
    fn split(&self, page_size: usize, complete: bool) -> Option<usize> {
        let count = self.elements.len();
        if count <= 2 * MIN_ELEMENTS || self.page_bytes() < page_size {
            return None;
        }
        let threshold = page_size * FILL_PERCENT / 100;
        let mut size = HEADER;
        for (index, element) in self.elements.iter().take(count - MIN_ELEMENTS).enumerate() {
            size += element.size();
            if index >= MIN_ELEMENTS && size > threshold {
                return Some(index);
            }
        }
        complete.then_some(count - MIN_ELEMENTS)
    }
}

/// A bucket that is being written: takes keys in their order.
#[derive(Debug, Default)]
pub struct Tree {
    /// Leaves first.
    levels: Vec<Level>,
    last: Option<Bytes>,
}

/// A bucket whose pages are written.
#[derive(Debug)]
pub struct Written(Bytes);

/// What the meta pages say about a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    meta: Meta,
}

impl Layout {
    /// The first bytes of the file, before all that the writer wrote.
    pub fn head(&self) -> Vec<u8> {
        let mut head = Meta { transaction: 1, ..self.meta }.page(0);
        head.extend_from_slice(&Meta { transaction: 0, ..self.meta }.page(1));
        head
    }

    /// Bytes of the whole file.
    pub fn size_bytes(&self) -> u64 {
        self.meta.pages * u64::from(self.meta.page_size)
    }
}

/// Writes all of a file behind its head, front to back. The head says where the root is, so it is known last: write to a file that has room left for it, or
/// twice, first to `std::io::sink()`. The same keys always make the same bytes.
#[derive(Debug)]
pub struct Writer<W> {
    out: W,
    page_size: u32,
    next: u64,
    buffer: Vec<u8>,
}

impl<W: Write> Writer<W> {
    /// `page_size` is a power of two from 1024 on; bbolt takes that of its machine, 4096 mostly.
    pub fn new(out: W, page_size: u32) -> Self {
        assert!(page_size.is_power_of_two() && page_size >= 1024, "pages of {page_size} bytes");
        Self { out, page_size, next: FIRST_PAGE, buffer: Vec::new() }
    }

    /// Adds a key that is above all others of the tree.
    pub fn put(&mut self, tree: &mut Tree, key: Bytes, value: Bytes) -> Result<(), Error> {
        self.add(tree, 0, key, value)
    }

    /// Adds a bucket.
    pub fn put_bucket(&mut self, tree: &mut Tree, name: Bytes, bucket: Written) -> Result<(), Error> {
        self.add(tree, BUCKET, name, bucket.0)
    }

    fn add(&mut self, tree: &mut Tree, flags: u32, key: Bytes, value: Bytes) -> Result<(), Error> {
        if key.is_empty() || key.len() > MAX_KEY_BYTES || value.len() > MAX_VALUE_BYTES {
            return Err(Error::Size { key: key.len(), value: value.len() });
        }
        if tree.last.as_ref().is_some_and(|last| *last >= key) {
            return Err(Error::Order);
        }
        tree.last = Some(key.clone());
        self.push(tree, 0, Element { flags, key, value, child: 0 })
    }

    fn push(&mut self, tree: &mut Tree, height: usize, element: Element) -> Result<(), Error> {
        if tree.levels.len() == height {
            tree.levels.push(Level::default());
        }
        tree.levels[height].push(element);
        while let Some(count) = tree.levels[height].split(self.page_size as usize, false) {
            self.emit(tree, height, count)?;
        }
        Ok(())
    }

    /// Writes the first elements of a level as a page, which becomes an element of the level above.
    fn emit(&mut self, tree: &mut Tree, height: usize, count: usize) -> Result<(), Error> {
        let level = &mut tree.levels[height];
        let elements: Vec<Element> = level.elements.drain(..count).collect();
        level.size -= elements.iter().map(Element::size).sum::<usize>();
        let child = self.page(&elements, height == 0)?;
        let key = elements.into_iter().next().map(|first| first.key).unwrap_or_default();
        self.push(tree, height + 1, Element { flags: 0, key, value: Bytes::new(), child })
    }

    fn page(&mut self, elements: &[Element], leaf: bool) -> Result<u64, Error> {
        let id = self.next;
        let size = HEADER + elements.iter().map(Element::size).sum::<usize>();
        let pages = size.div_ceil(self.page_size as usize);
        let overflow = u32::try_from(pages - 1).map_err(|_| too_large())?;
        self.buffer.clear();
        encode(&mut self.buffer, id, overflow, elements, leaf)?;
        self.buffer.resize(pages * self.page_size as usize, 0);
        self.out.write_all(&self.buffer)?;
        self.next += pages as u64;
        Ok(id)
    }

    /// Writes the rest of a bucket. A small one has no page of its own but will be inside of its parent's.
    pub fn end(&mut self, mut tree: Tree) -> Result<Written, Error> {
        let small = match tree.levels.as_slice() {
            [] => true,
            [leaves] => {
                leaves.page_bytes() <= self.page_size as usize / 4 && leaves.elements.iter().all(|element| element.flags & BUCKET == 0)
            }
            _ => false,
        };
        let mut value = Vec::new();
        if small {
            value.resize(BUCKET_HEADER, 0);
            let elements: Vec<Element> = tree.levels.pop().map(|level| level.elements.into()).unwrap_or_default();
            encode(&mut value, 0, 0, &elements, true)?;
        } else {
            value.extend_from_slice(&self.root(tree)?.to_le_bytes());
            value.resize(BUCKET_HEADER, 0);
        }
        Ok(Written(value.into()))
    }

    /// Writes the rest of a tree; returns its root page.
    fn root(&mut self, mut tree: Tree) -> Result<u64, Error> {
        if tree.levels.is_empty() {
            tree.levels.push(Level::default());
        }
        let mut height = 0;
        loop {
            while let Some(count) = tree.levels[height].split(self.page_size as usize, true) {
                self.emit(&mut tree, height, count)?;
            }
            let rest = tree.levels[height].elements.len();
            if height + 1 == tree.levels.len() {
                let elements: Vec<Element> = std::mem::take(&mut tree.levels[height].elements).into();
                return self.page(&elements, height == 0);
            }
            self.emit(&mut tree, height, rest)?;
            height += 1;
        }
    }

    /// Writes the root bucket and says what the head of the file must be.
    pub fn finish(mut self, root: Tree) -> Result<(W, Layout), Error> {
        let root = self.root(root)?;
        self.out.flush()?;
        let meta = Meta { page_size: self.page_size, root, freelist: NO_FREELIST, pages: self.next, transaction: 1 };
        Ok((self.out, Layout { meta }))
    }
}

fn encode(page: &mut Vec<u8>, id: u64, overflow: u32, elements: &[Element], leaf: bool) -> Result<(), Error> {
    let count = u16::try_from(elements.len()).map_err(|_| too_large())?;
    put_header(page, id, if leaf { LEAF } else { BRANCH }, count, overflow);
    let number = |value: usize| u32::try_from(value).map_err(|_| too_large());
    let mut data = 0;
    for (index, element) in elements.iter().enumerate() {
        // Counted from the element itself.
        let position = number((elements.len() - index) * ELEMENT + data)?.to_le_bytes();
        let key = number(element.key.len())?.to_le_bytes();
        if leaf {
            page.extend_from_slice(&element.flags.to_le_bytes());
            page.extend_from_slice(&position);
            page.extend_from_slice(&key);
            page.extend_from_slice(&number(element.value.len())?.to_le_bytes());
        } else {
            page.extend_from_slice(&position);
            page.extend_from_slice(&key);
            page.extend_from_slice(&element.child.to_le_bytes());
        }
        data += element.key.len() + element.value.len();
    }
    for element in elements {
        page.extend_from_slice(&element.key);
        page.extend_from_slice(&element.value);
    }
    Ok(())
}

fn too_large() -> Error {
    Error::Io(io::Error::new(io::ErrorKind::FileTooLarge, "a page cannot hold so much"))
}
