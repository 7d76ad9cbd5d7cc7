//! The format of pages: headers, elements, meta pages. Pure; every number of a page is checked when the page is parsed, and trusted after.

use bytes::Bytes;

pub const HEADER: usize = 16;
/// Elements of leaves and of branches have one size.
pub const ELEMENT: usize = 16;
pub const BRANCH: u16 = 0x01;
pub const LEAF: u16 = 0x02;
pub const META: u16 = 0x04;
pub const FREELIST: u16 = 0x10;
/// Marks an element of a leaf as a bucket.
pub const BUCKET: u32 = 0x01;
/// What stands before the inline page of a bucket: its root page, 0 for inline, and its sequence.
pub const BUCKET_HEADER: usize = 16;
/// In place of a freelist's page: the list is not kept, every unreachable page is free.
pub const NO_FREELIST: u64 = u64::MAX;
/// The two meta pages come first.
pub const FIRST_PAGE: u64 = 2;

const MAGIC: u32 = 0xED0C_DAED;
const VERSION: u32 = 2;
/// Where the checksum of a meta page stands, which covers what is before it.
const META_CHECKED: usize = 56;
pub const META_BYTES: usize = META_CHECKED + 8;
const PAGE_SIZES: std::ops::RangeInclusive<u32> = 1024..=1 << 24;

pub fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

pub fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

pub fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

/// What a meta page says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Meta {
    pub page_size: u32,
    /// The root page of the root bucket.
    pub root: u64,
    pub freelist: u64,
    /// Pages from here on were never used.
    pub pages: u64,
    pub transaction: u64,
}

impl Meta {
    /// Reads what follows a meta page's header; `None` unless it is whole.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes = bytes.get(..META_BYTES)?;
        let meta = Self {
            page_size: u32_at(bytes, 8),
            root: u64_at(bytes, 16),
            freelist: u64_at(bytes, 32),
            pages: u64_at(bytes, 40),
            transaction: u64_at(bytes, 48),
        };
        let known = u32_at(bytes, 0) == MAGIC && u32_at(bytes, 4) == VERSION;
        let sized = meta.page_size.is_power_of_two() && PAGE_SIZES.contains(&meta.page_size);
        (known && sized && u64_at(bytes, META_CHECKED) == fnv1a(&bytes[..META_CHECKED])).then_some(meta)
    }

    /// A whole meta page.
    pub fn page(&self, id: u64) -> Vec<u8> {
        let mut page = Vec::with_capacity(self.page_size as usize);
        put_header(&mut page, id, META, 0, 0);
        page.extend_from_slice(&MAGIC.to_le_bytes());
        page.extend_from_slice(&VERSION.to_le_bytes());
        page.extend_from_slice(&self.page_size.to_le_bytes());
        page.extend_from_slice(&0u32.to_le_bytes());
        page.extend_from_slice(&self.root.to_le_bytes());
        // The sequence of the root bucket.
        page.extend_from_slice(&0u64.to_le_bytes());
        page.extend_from_slice(&self.freelist.to_le_bytes());
        page.extend_from_slice(&self.pages.to_le_bytes());
        page.extend_from_slice(&self.transaction.to_le_bytes());
        let sum = fnv1a(&page[HEADER..]);
        page.extend_from_slice(&sum.to_le_bytes());
        page.resize(self.page_size as usize, 0);
        page
    }
}

/// FNV-1a with 64 bits.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3))
}

pub fn put_header(page: &mut Vec<u8>, id: u64, flags: u16, count: u16, overflow: u32) {
    page.extend_from_slice(&id.to_le_bytes());
    page.extend_from_slice(&flags.to_le_bytes());
    page.extend_from_slice(&count.to_le_bytes());
    page.extend_from_slice(&overflow.to_le_bytes());
}

/// A leaf or branch page with its overflow, whose elements are all inside it and in order.
#[derive(Clone, Debug)]
pub struct Page {
    data: Bytes,
    leaf: bool,
    count: usize,
}

impl Page {
    pub fn parse(data: Bytes) -> Result<Self, &'static str> {
        if data.len() < HEADER {
            return Err("it has no header");
        }
        let leaf = match u16_at(&data, 8) {
            LEAF => true,
            BRANCH => false,
            _ => return Err("invalid type: neither leaf nor branch"),
        };
        let page = Self { count: usize::from(u16_at(&data, 10)), leaf, data };
        if page.data.len() < HEADER + page.count * ELEMENT {
            return Err("its elements do not fit");
        }
        for index in 0..page.count {
            let key = page.place(index).ok_or("an element reaches beyond its end")?;
            if key.is_empty() {
                return Err("a key is empty");
            }
            if index > 0 && page.key(index - 1) >= page.key(index) {
                return Err("its keys are not in order");
            }
        }
        Ok(page)
    }

    pub fn is_leaf(&self) -> bool {
        self.leaf
    }

    pub fn count(&self) -> usize {
        self.count
    }

    pub fn key(&self, index: usize) -> &[u8] {
        &self.data[self.key_range(index)]
    }

    /// The key without a copy; it keeps the page in memory.
    pub fn shared_key(&self, index: usize) -> Bytes {
        self.data.slice(self.key_range(index))
    }

    /// The value of a leaf's element, without a copy.
    pub fn value(&self, index: usize) -> Bytes {
        let start = self.key_range(index).end;
        self.data.slice(start..start + u32_at(&self.data, HEADER + index * ELEMENT + 12) as usize)
    }

    /// Whether a leaf's element is a bucket.
    pub fn is_bucket(&self, index: usize) -> bool {
        u32_at(&self.data, HEADER + index * ELEMENT) & BUCKET != 0
    }

    /// The page that a branch's element leads to.
    pub fn child(&self, index: usize) -> u64 {
        u64_at(&self.data, HEADER + index * ELEMENT + 8)
    }

    /// The element with exactly this key in a leaf, the one that covers it in a branch.
    pub fn find(&self, key: &[u8]) -> Option<usize> {
        let (mut low, mut high) = (0, self.count);
        while low < high {
            let middle = low.midpoint(high);
            if self.key(middle) <= key { low = middle + 1 } else { high = middle }
        }
        let found = low.checked_sub(1);
        if self.leaf { found.filter(|index| self.key(*index) == key) } else { found }
    }

    fn key_range(&self, index: usize) -> std::ops::Range<usize> {
        let element = HEADER + index * ELEMENT;
        let fields = if self.leaf { element + 4 } else { element };
        let start = element + u32_at(&self.data, fields) as usize;
        start..start + u32_at(&self.data, fields + 4) as usize
    }

    /// Where the key is, if it and the value are inside the page.
    fn place(&self, index: usize) -> Option<std::ops::Range<usize>> {
        let element = HEADER + index * ELEMENT;
        let key = self.key_range(index);
        let end = if self.leaf { key.end + u32_at(&self.data, element + 12) as usize } else { key.end };
        (key.start >= HEADER + self.count * ELEMENT && end <= self.data.len()).then_some(key)
    }
}
