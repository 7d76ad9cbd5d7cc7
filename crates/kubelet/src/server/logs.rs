//! Container logs in CRI's format: `TIME STREAM TAG TEXT`, one record a line, tag `P` for a part of a longer line.

use std::path::Path;

/// The last `lines` lines, at most `bytes` bytes of them, as plain text; empty where the log cannot be read.
pub fn tail_text(path: &Path, lines: usize, bytes: usize) -> String {
    let Ok(text) = std::fs::read(path) else { return String::new() };
    let mut out = Vec::new();
    let records: Vec<&[u8]> = text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).collect();
    for line in &records[records.len().saturating_sub(lines)..] {
        let mut parts = line.splitn(4, |byte| *byte == b' ');
        let (tag, content) = (parts.nth(2), parts.next());
        out.extend_from_slice(content.unwrap_or_default());
        if tag == Some(b"F") {
            out.push(b'\n');
        }
    }
    String::from_utf8_lossy(&out[out.len().saturating_sub(bytes)..]).into_owned()
}
