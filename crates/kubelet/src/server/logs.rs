//! Container logs in CRI's format: `TIME STREAM TAG TEXT`, one record a line, tag `P` for a part of a longer line. Reads, filters, follows
//! (pkg/kubelet/kuberuntime/logs).

use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncSeekExt, BufReader};
use tokio::sync::mpsc;

/// How often a followed log is looked at.
const POLL: Duration = Duration::from_millis(100);
/// Sent on when so much has been collected, or when nothing more is there.
const FLUSH_BYTES: usize = 32 << 10;
const CHUNK: u64 = 64 << 10;

/// PodLogOptions as the kubelet gets them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LogOptions {
    pub follow: bool,
    pub previous: bool,
    pub timestamps: bool,
    pub since: Option<jiff::Timestamp>,
    pub tail_lines: Option<u64>,
    pub limit_bytes: Option<u64>,
    /// `stdout` or `stderr`; `None` is both.
    pub stream: Option<String>,
}

impl LogOptions {
    /// From the query of a request; the error is a 422's text.
    pub fn parse(query: &[(String, String)], now: jiff::Timestamp) -> Result<Self, String> {
        let mut out = Self::default();
        for (key, value) in query {
            let yes = matches!(value.as_str(), "true" | "1" | "True" | "TRUE" | "t" | "T");
            let number =
                || value.parse::<u64>().map_err(|_| format!("{key}: Invalid value: {value:?}: must be a number that is not negative"));
            match key.as_str() {
                "follow" => out.follow = yes,
                "previous" => out.previous = yes,
                "timestamps" => out.timestamps = yes,
                "tailLines" if value != "-1" => out.tail_lines = Some(number()?),
                "limitBytes" => out.limit_bytes = Some(number()?),
                "sinceSeconds" => {
                    let seconds = i64::try_from(number()?).map_err(|_| format!("sinceSeconds: Invalid value: {value:?}"))?;
                    out.since = now.checked_sub(jiff::SignedDuration::from_secs(seconds)).ok();
                }
                "sinceTime" => {
                    out.since =
                        Some(value.parse().map_err(|_| format!("sinceTime: Invalid value: {value:?}: must be a time of RFC 3339"))?);
                }
                "stream" => {
                    out.stream = match value.as_str() {
                        "Stdout" => Some("stdout".into()),
                        "Stderr" => Some("stderr".into()),
                        _ => None,
                    }
                }
                _ => {}
            }
        }
        Ok(out)
    }
}

/// One record of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Record<'a> {
    time: &'a str,
    stream: &'a str,
    partial: bool,
    text: &'a [u8],
}

/// `line` without its newline; `None` when it is not in CRI's format.
fn parse(line: &[u8]) -> Option<Record<'_>> {
    let mut parts = line.splitn(4, |byte| *byte == b' ');
    let time = std::str::from_utf8(parts.next()?).ok()?;
    let stream = std::str::from_utf8(parts.next()?).ok()?;
    // Tags are a list by colons; the first one tells whether the line goes on.
    let tag = parts.next()?;
    Some(Record { time, stream, partial: tag.split(|byte| *byte == b':').next() == Some(b"P"), text: parts.next().unwrap_or_default() })
}

/// Turns records into what the client sees, within its limits.
struct Writer<'a> {
    options: &'a LogOptions,
    buffer: Vec<u8>,
    left: Option<u64>,
    /// The last record was a part: the next one goes on on the same line.
    continuing: bool,
}

impl Writer<'_> {
    fn take(&mut self, line: &[u8]) {
        let Some(record) = parse(line) else { return };
        if self.options.stream.as_deref().is_some_and(|wanted| wanted != record.stream) {
            return;
        }
        if let Some(since) = self.options.since
            && record.time.parse::<jiff::Timestamp>().is_ok_and(|time| time < since)
        {
            return;
        }
        if self.options.timestamps && !self.continuing {
            self.push(record.time.as_bytes());
            self.push(b" ");
        }
        self.push(record.text);
        if !record.partial {
            self.push(b"\n");
        }
        self.continuing = record.partial;
    }

    fn push(&mut self, bytes: &[u8]) {
        let length = self.left.map_or(bytes.len(), |left| bytes.len().min(usize::try_from(left).unwrap_or(usize::MAX)));
        self.buffer.extend_from_slice(&bytes[..length]);
        if let Some(left) = &mut self.left {
            *left -= length as u64;
        }
    }

    fn is_full(&self) -> bool {
        self.left == Some(0)
    }
}

/// Where the last `lines` lines begin.
fn tail_offset(file: &mut std::fs::File, lines: u64) -> std::io::Result<u64> {
    let size = file.seek(SeekFrom::End(0))?;
    let (mut end, mut found) = (size, 0);
    let mut chunk = Vec::new();
    while end > 0 {
        let start = end.saturating_sub(CHUNK);
        chunk.clear();
        file.seek(SeekFrom::Start(start))?;
        (&mut *file).take(end - start).read_to_end(&mut chunk)?;
        for (index, _) in chunk.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n') {
            let after = start + index as u64 + 1;
            // The newline that ends the file ends the last line, it does not begin another.
            if after < size {
                found += 1;
                if found == lines {
                    return Ok(after);
                }
            } else if lines == 0 {
                return Ok(size);
            }
        }
        end = start;
    }
    Ok(if lines == 0 { size } else { 0 })
}

/// Sends the log to `out` until its end, its limit, or, when it is followed, until the container is dead and all of it is sent.
pub async fn send(path: PathBuf, options: LogOptions, is_running: impl Fn() -> bool, out: mpsc::Sender<Bytes>) -> std::io::Result<()> {
    let start = match options.tail_lines {
        None => 0,
        Some(lines) => tail_offset(&mut std::fs::File::open(&path)?, lines)?,
    };
    let mut writer = Writer { options: &options, buffer: Vec::new(), left: options.limit_bytes, continuing: false };
    let mut reader = BufReader::with_capacity(CHUNK as usize, tokio::fs::File::open(&path).await?);
    reader.seek(SeekFrom::Start(start)).await?;
    let mut line = Vec::new();
    loop {
        // Asked before reading: what a container wrote before its death is then surely seen.
        let running = options.follow && is_running();
        while reader.read_until(b'\n', &mut line).await? > 0 && line.ends_with(b"\n") {
            writer.take(&line[..line.len() - 1]);
            line.clear();
            if writer.is_full() {
                break;
            }
            if writer.buffer.len() >= FLUSH_BYTES && out.send(std::mem::take(&mut writer.buffer).into()).await.is_err() {
                return Ok(());
            }
        }
        if !writer.buffer.is_empty() && out.send(std::mem::take(&mut writer.buffer).into()).await.is_err() {
            return Ok(());
        }
        if writer.is_full() {
            return Ok(());
        }
        if let Some(fresh) = reopened(&path, reader.get_ref()).await? {
            // Rotated: the old file has been read to its end.
            reader = BufReader::with_capacity(CHUNK as usize, fresh);
            line.clear();
            continue;
        }
        if !running {
            return Ok(());
        }
        tokio::select! {
            () = tokio::time::sleep(POLL) => {}
            () = out.closed() => return Ok(()),
        }
    }
}

/// The file now at `path` when it is another one than `open`.
async fn reopened(path: &Path, open: &tokio::fs::File) -> std::io::Result<Option<tokio::fs::File>> {
    use std::os::unix::fs::MetadataExt;
    let there = match tokio::fs::metadata(path).await {
        Ok(meta) => meta,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    if there.ino() == open.metadata().await?.ino() {
        return Ok(None);
    }
    tokio::fs::File::open(path).await.map(Some)
}

/// The last `lines` lines, at most `bytes` bytes of them, as plain text; empty where the log cannot be read.
pub fn tail_text(path: &Path, lines: usize, bytes: usize) -> String {
    let read = || -> std::io::Result<Vec<u8>> {
        let mut file = std::fs::File::open(path)?;
        let start = tail_offset(&mut file, lines as u64)?;
        file.seek(SeekFrom::Start(start))?;
        let mut text = Vec::new();
        file.read_to_end(&mut text)?;
        Ok(text)
    };
    let Ok(text) = read() else { return String::new() };
    let options = LogOptions::default();
    let mut writer = Writer { options: &options, buffer: Vec::new(), left: None, continuing: false };
    for line in text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        writer.take(line);
    }
    let out = writer.buffer;
    String::from_utf8_lossy(&out[out.len().saturating_sub(bytes)..]).into_owned()
}

/// A whole file as a body, for `/logs`.
pub async fn whole(mut file: tokio::fs::File, out: mpsc::Sender<Bytes>) -> std::io::Result<()> {
    loop {
        let mut chunk = Vec::with_capacity(CHUNK as usize);
        if (&mut file).take(CHUNK).read_to_end(&mut chunk).await? == 0 || out.send(chunk.into()).await.is_err() {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "2024-01-01T00:00:01.5Z stdout F one\n2024-01-01T00:00:02Z stderr P tw\n2024-01-01T00:00:03Z stderr F o\nnonsense\n2024-01-01T00:00:04Z stdout F \n2024-01-01T00:00:05Z stdout F three\n";

    async fn read(options: LogOptions) -> String {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.log");
        std::fs::write(&path, LOG).unwrap();
        let (send_to, mut receive) = mpsc::channel(64);
        send(path, options, || false, send_to).await.unwrap();
        let mut out = Vec::new();
        while let Some(bytes) = receive.recv().await {
            out.extend_from_slice(&bytes);
        }
        String::from_utf8(out).unwrap()
    }

    #[tokio::test]
    async fn options_choose_what_is_sent() {
        let none = LogOptions::default;
        assert_eq!(read(none()).await, "one\ntwo\n\nthree\n");
        assert_eq!(read(LogOptions { tail_lines: Some(1), ..none() }).await, "three\n");
        assert_eq!(read(LogOptions { tail_lines: Some(0), ..none() }).await, "");
        assert_eq!(read(LogOptions { tail_lines: Some(99), ..none() }).await, "one\ntwo\n\nthree\n");
        assert_eq!(read(LogOptions { limit_bytes: Some(5), ..none() }).await, "one\nt");
        assert_eq!(read(LogOptions { stream: Some("stderr".into()), ..none() }).await, "two\n");
        assert_eq!(read(LogOptions { since: Some("2024-01-01T00:00:04Z".parse().unwrap()), ..none() }).await, "\nthree\n");
        let stamped = read(LogOptions { timestamps: true, tail_lines: Some(5), ..none() }).await;
        assert!(stamped.starts_with("2024-01-01T00:00:02Z two\n"), "{stamped}");
    }

    #[tokio::test]
    async fn following_reads_over_a_rotation() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.log");
        std::fs::write(&path, "2024-01-01T00:00:01Z stdout F old\n").unwrap();
        let (send_to, mut receive) = mpsc::channel(64);
        let running = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(true));
        let seen = running.clone();
        let options = LogOptions { follow: true, ..LogOptions::default() };
        let task = tokio::spawn(send(path.clone(), options, move || seen.load(std::sync::atomic::Ordering::SeqCst), send_to));
        assert_eq!(receive.recv().await.unwrap(), "old\n");
        std::fs::rename(&path, dir.path().join("0.log.1")).unwrap();
        std::fs::write(&path, "2024-01-01T00:00:02Z stdout F new\n").unwrap();
        assert_eq!(receive.recv().await.unwrap(), "new\n");
        running.store(false, std::sync::atomic::Ordering::SeqCst);
        task.await.unwrap().unwrap();
    }

    #[test]
    fn queries() {
        let query = |text: &str| -> Vec<(String, String)> {
            text.split('&').filter_map(|pair| pair.split_once('=')).map(|(k, v)| (k.into(), v.into())).collect()
        };
        let now: jiff::Timestamp = "2024-01-01T00:01:00Z".parse().unwrap();
        let got = LogOptions::parse(&query("follow=true&tailLines=5&sinceSeconds=60&timestamps=true"), now).unwrap();
        assert_eq!((got.follow, got.tail_lines, got.timestamps), (true, Some(5), true));
        assert_eq!(got.since.unwrap().to_string(), "2024-01-01T00:00:00Z");
        assert!(LogOptions::parse(&query("tailLines=x"), now).is_err());
        assert!(LogOptions::parse(&query("sinceTime=yesterday"), now).is_err());
    }
}
