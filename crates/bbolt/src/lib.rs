//! bbolt database files (go.etcd.io/bbolt, file format version 2): a reader and a writer of whole files. Knows nothing of who keeps what in them, and is
//! no database: a file is written once, front to back, and read without changing it.
//!
//! `page` is the format, `reader` walks buckets in the order of their keys, `check` looks at a file as a whole, `writer` builds a file from sorted keys.
//! Memory is a few pages in both directions, however large the file. A malformed file is an error, never a panic or an endless walk.
//!
//! Crates that port bbolt (bbolt-rs, nut) map the file into memory and panic on pages that contradict each other, and hold a transaction's pages until
//! its end. So they are of no use for files that strangers hand in, nor for files larger than memory.

mod check;
mod page;
mod reader;
mod writer;

pub use reader::{Bucket, Database, Entries, Entry, Source, Value};
pub use writer::{Layout, Tree, Writer, Written};

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// Neither of the two meta pages is valid; the text is bbolt's.
    #[error("invalid database")]
    Invalid,
    #[error("the file has {len} bytes and should have {expected}: it was cut off")]
    Short { len: u64, expected: u64 },
    #[error("page {page}: {reason}")]
    Page { page: u64, reason: &'static str },
    /// Only from the writer: keys have 1 to 32768 bytes, values less than 2 GiB.
    #[error("a key of {key} bytes with a value of {value} bytes cannot be stored")]
    Size { key: usize, value: usize },
    /// Only from the writer.
    #[error("keys must be written in their order, each once")]
    Order,
}
