//! The process as the kernel sees it, under the names of Prometheus' client libraries. Reads /proc only; what cannot be read is left out.

use std::fs;

use super::text::Page;

/// What the kernel counts processor time in, on every architecture that Linux still has.
const TICKS_PER_SECOND: f64 = 100.0;

pub fn write(page: &mut Page) {
    if let Some((cpu, started)) = times() {
        page.counter("process_cpu_seconds_total", "Processor time that was used, of the kernel and of the program").is(cpu);
        page.gauge("process_start_time_seconds", "When the process began, in seconds since 1970").is(started);
    }
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    for (name, help, key) in
        [("process_resident_memory_bytes", "Memory in use", "VmRSS:"), ("process_virtual_memory_bytes", "Address space in use", "VmSize:")]
    {
        if let Some(kib) = field(&status, key) {
            page.gauge(name, help).is(kib * 1024);
        }
    }
    let open = fs::read_dir("/proc/self/fd").map(|files| files.count() as u64).ok();
    let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let limit = field(&limits, "Max open files");
    for (name, help, value) in [
        ("process_open_fds", "Open file descriptors", open),
        ("process_max_fds", "File descriptors that may be open", limit),
        ("os_fd_used", "Open file descriptors", open),
        ("os_fd_limit", "File descriptors that may be open", limit),
    ] {
        if let Some(value) = value {
            page.gauge(name, help).is(value);
        }
    }
}

/// The number after a name.
fn field(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace().next()?.parse().ok()
}

/// Processor time and time of the start, both in seconds.
fn times() -> Option<(f64, f64)> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    let boot = field(&fs::read_to_string("/proc/stat").ok()?, "btime")?;
    let (user, kernel, started) = parse_stat(&stat)?;
    Some(((user + kernel) as f64 / TICKS_PER_SECOND, boot as f64 + started as f64 / TICKS_PER_SECOND))
}

/// The fields utime, stime and starttime of proc(5), in ticks; the name before them may hold anything.
fn parse_stat(stat: &str) -> Option<(u64, u64, u64)> {
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let number = |at: usize| fields.get(at)?.parse().ok();
    Some((number(11)?, number(12)?, number(19)?))
}

#[cfg(test)]
mod tests {
    use super::super::text::Format;
    use super::*;

    #[test]
    fn this_process() {
        assert_eq!(parse_stat("1 (a) b) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20"), Some((11, 12, 19)));
        assert_eq!(parse_stat("1 (a"), None);
        let mut page = Page::new(Format::Prometheus);
        write(&mut page);
        let text = page.finish();
        for name in ["process_cpu_seconds_total", "process_start_time_seconds", "process_resident_memory_bytes", "process_open_fds"] {
            assert!(text.lines().any(|line| line.starts_with(&format!("{name} "))), "{name}: {text}");
        }
    }
}
