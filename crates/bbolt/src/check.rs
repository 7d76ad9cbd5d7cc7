//! A look at a file as a whole, with the faults that bbolt's own check names (tx_check.go). Changes nothing.

use bytes::Bytes;

use crate::page::{FIRST_PAGE, NO_FREELIST, Page};
use crate::reader::{Database, MAX_DEPTH, Root, Source, Value, freelist, value};
use crate::{Bucket, Error};

/// More faults than this tell nothing new.
const MAX_FAULTS: usize = 100;

impl<S: Source> Database<S> {
    /// What is wrong with the file: pages that cannot be read, are out of order, in two places, or in none. Empty for a good file.
    pub fn check(&self) -> Result<Vec<String>, Error> {
        let words = usize::try_from(self.meta.pages.div_ceil(64)).map_err(|_| Error::Invalid)?;
        let mut check = Check { database: self, used: vec![0; words], free: vec![0; words], faults: Vec::new() };
        (0..FIRST_PAGE.min(self.meta.pages)).for_each(|id| mark(&mut check.used, id));
        check.free_pages()?;
        check.bucket(&self.root(), 0)?;
        // A list that is not kept has every page that nobody refers to.
        if self.meta.freelist != NO_FREELIST {
            for id in 0..self.meta.pages {
                if !is_marked(&check.used, id) && !is_marked(&check.free, id) {
                    check.fault(id, "unreachable unfreed");
                }
            }
        }
        Ok(check.faults)
    }
}

struct Check<'a, S> {
    database: &'a Database<S>,
    used: Vec<u64>,
    free: Vec<u64>,
    faults: Vec<String>,
}

fn is_marked(bits: &[u64], id: u64) -> bool {
    bits[(id / 64) as usize] & 1 << (id % 64) != 0
}

fn mark(bits: &mut [u64], id: u64) {
    bits[(id / 64) as usize] |= 1 << (id % 64);
}

impl<'a, S: Source> Check<'a, S> {
    fn fault(&mut self, page: u64, reason: &str) {
        if self.faults.len() < MAX_FAULTS {
            self.faults.push(format!("page {page}: {reason}"));
        }
    }

    /// A page that cannot be read is a fault of the file, a disk that cannot be read is not.
    fn tolerate<T>(&mut self, result: Result<T, Error>) -> Result<Option<T>, Error> {
        match result {
            Ok(value) => Ok(Some(value)),
            Err(Error::Page { page, reason }) => {
                self.fault(page, reason);
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    fn free_pages(&mut self) -> Result<(), Error> {
        let id = self.database.meta.freelist;
        if id == NO_FREELIST {
            return Ok(());
        }
        let data = self.database.pages_of(id);
        let Some(data) = self.tolerate(data)? else { return Ok(()) };
        self.take(id, &data);
        match freelist(&data) {
            Err(reason) => self.fault(id, reason),
            Ok(ids) => {
                for free in ids {
                    if free < FIRST_PAGE || free >= self.database.meta.pages {
                        self.fault(free, "freed but outside of the file");
                    } else if is_marked(&self.free, free) {
                        self.fault(free, "already freed");
                    } else {
                        mark(&mut self.free, free);
                    }
                }
            }
        }
        Ok(())
    }

    /// Marks a page and its overflow as used; says whether it was met for the first time.
    fn take(&mut self, id: u64, data: &Bytes) -> bool {
        let count = data.len() as u64 / u64::from(self.database.meta.page_size);
        let mut first = true;
        for id in id..id + count {
            if is_marked(&self.used, id) {
                self.fault(id, "multiple references");
                first = false;
            }
            mark(&mut self.used, id);
        }
        if is_marked(&self.free, id) {
            self.fault(id, "reachable freed");
        }
        first
    }

    fn bucket(&mut self, bucket: &Bucket<'a, S>, depth: usize) -> Result<(), Error> {
        match &bucket.root {
            Root::Page(id) => self.tree(*id, None, None, depth).map(|_| ()),
            Root::Inline(page) => self.leaf(0, page, depth),
        }
    }

    /// Walks down from a page whose keys must be in `from..to`.
    fn tree(&mut self, id: u64, from: Option<&[u8]>, to: Option<&[u8]>, depth: usize) -> Result<(), Error> {
        if depth >= MAX_DEPTH {
            self.fault(id, "it lies deeper than a tree can be");
            return Ok(());
        }
        let data = self.database.pages_of(id);
        let Some(data) = self.tolerate(data)? else { return Ok(()) };
        if !self.take(id, &data) {
            return Ok(());
        }
        let page = Page::parse(data).map_err(|reason| Error::Page { page: id, reason });
        let Some(page) = self.tolerate(page)? else { return Ok(()) };
        if page.count() == 0 {
            if !page.is_leaf() || from.is_some() {
                self.fault(id, "it is empty but not a root");
            }
            return Ok(());
        }
        if from.is_some_and(|from| page.key(0) < from) || to.is_some_and(|to| page.key(page.count() - 1) >= to) {
            self.fault(id, "its keys are outside of what its parent says");
        }
        if page.is_leaf() {
            return self.leaf(id, &page, depth);
        }
        for index in 0..page.count() {
            let to = if index + 1 < page.count() { Some(page.key(index + 1)) } else { to };
            self.tree(page.child(index), Some(page.key(index)), to, depth + 1)?;
        }
        Ok(())
    }

    fn leaf(&mut self, id: u64, page: &Page, depth: usize) -> Result<(), Error> {
        for index in 0..page.count() {
            if !page.is_bucket(index) {
                continue;
            }
            let entry = value(self.database, id, page, index);
            let Some(Value::Bucket(bucket)) = self.tolerate(entry)? else { continue };
            if depth + 1 >= MAX_DEPTH {
                self.fault(id, "its buckets lie too deep in each other");
                return Ok(());
            }
            self.bucket(&bucket, depth + 1)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::page::{FREELIST, HEADER, Meta, put_header};
    use crate::{Tree, Writer};

    const PAGE: usize = 1024;

    /// A database of a few pages, then free pages, the last of them the list of the others.
    fn with_freelist(listed: impl FnOnce(u64) -> Vec<u64>, long: bool) -> Vec<u8> {
        let mut writer = Writer::new(Vec::new(), PAGE as u32);
        let mut tree = Tree::default();
        for n in 0..100 {
            writer.put(&mut tree, format!("{n:03}").into(), vec![0; 100].into()).unwrap();
        }
        let bucket = writer.end(tree).unwrap();
        let mut root = Tree::default();
        writer.put_bucket(&mut root, "b".into(), bucket).unwrap();
        let (body, layout) = writer.finish(root).unwrap();
        let mut file = [layout.head(), body].concat();
        let meta = Meta::decode(&file[HEADER..]).unwrap();
        let first = meta.pages;
        file.resize(file.len() + 3 * PAGE, 0);
        let ids = listed(first);
        let mut page = Vec::new();
        if long {
            put_header(&mut page, first + 3, FREELIST, u16::MAX, 0);
            page.extend_from_slice(&(ids.len() as u64).to_le_bytes());
        } else {
            put_header(&mut page, first + 3, FREELIST, ids.len() as u16, 0);
        }
        ids.iter().for_each(|id| page.extend_from_slice(&id.to_le_bytes()));
        page.resize(PAGE, 0);
        file.extend_from_slice(&page);
        let meta = Meta { freelist: first + 3, pages: first + 4, transaction: 9, ..meta };
        file[..PAGE].copy_from_slice(&meta.page(0));
        file
    }

    #[test]
    fn lists_of_free_pages() {
        let check = |listed: fn(u64) -> Vec<u64>, expected: &[&str]| {
            for long in [false, true] {
                let database = Database::new(with_freelist(listed, long)).unwrap();
                let faults = database.check().unwrap();
                let reasons: Vec<&str> = faults.iter().map(|fault| fault.split_once(": ").unwrap().1).collect();
                assert_eq!(reasons, expected, "{faults:?}");
            }
        };
        check(|first| vec![first, first + 1, first + 2], &[]);
        check(|first| vec![first, first + 2], &["unreachable unfreed"]);
        check(|first| vec![first, first + 1, first + 1, first + 2], &["already freed"]);
        check(|first| vec![first - 1, first, first + 1, first + 2], &["reachable freed"]);
        check(|first| vec![first, first + 1, first + 2, first + 4], &["freed but outside of the file"]);
        check(|first| vec![1, first, first + 1, first + 2], &["freed but outside of the file"]);
    }

    #[test]
    fn a_list_that_is_none() {
        let mut file = with_freelist(|_| Vec::new(), true);
        let at = file.len() - PAGE + HEADER;
        file[at..at + 8].copy_from_slice(&u64::MAX.to_le_bytes());
        let faults = Database::new(file.clone()).unwrap().check().unwrap();
        assert!(faults[0].contains("its list of free pages does not fit"), "{faults:?}");
        file[at - 8] = 2;
        let faults = Database::new(file).unwrap().check().unwrap();
        assert!(faults[0].contains("it should be the list of free pages"), "{faults:?}");
    }

    /// Pages that two places refer to are walked once.
    #[test]
    fn a_circle_of_pages() {
        let mut file = with_freelist(|first| vec![first, first + 1, first + 2], false);
        let branch = file.chunks(PAGE).position(|page| page[8] == 1).unwrap();
        let second = branch * PAGE + HEADER + 16 + 8;
        file[second..second + 8].copy_from_slice(&(branch as u64).to_le_bytes());
        let database = Database::new(file).unwrap();
        let faults = database.check().unwrap();
        assert!(faults.iter().any(|fault| fault.contains("multiple references")), "{faults:?}");
        let bucket = database.root().bucket(b"b").unwrap().unwrap();
        assert!(bucket.entries().any(|entry| entry.is_err()));
        assert_eq!(bucket.entries().filter(Result::is_err).count(), 1, "the walk ends with the error");
    }
}
