//! Control groups, versions 1 and 2, by their file systems: make, limit, measure, remove. A path is below the hierarchies' roots: `/kubepods/burstable/podX`.
//! Decides nothing; every call blocks (shortly).

use std::io;
use std::path::{Path, PathBuf};

const ROOT: &str = "/sys/fs/cgroup";
/// The version-1 controllers that pods are limited by. The runtime makes the others itself.
const V1_CONTROLLERS: [&str; 3] = ["cpu", "memory", "pids"];
const V2_CONTROLLERS: [&str; 6] = ["cpuset", "cpu", "io", "memory", "hugetlb", "pids"];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    V1,
    V2,
}

/// What one group may use. `None` leaves a value as it is; a negative one takes the limit away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    pub cpu_shares: Option<i64>,
    pub cpu_quota_us: Option<i64>,
    pub cpu_period_us: i64,
    pub memory_bytes: Option<i64>,
    pub pids: Option<i64>,
}

/// What one group used or uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    pub cpu_ns: u64,
    pub memory_bytes: u64,
    /// Without pages that can be dropped at once.
    pub working_set_bytes: u64,
    pub rss_bytes: u64,
    pub page_faults: u64,
    pub major_page_faults: u64,
}

pub fn version() -> Version {
    if Path::new(ROOT).join("cgroup.controllers").exists() { Version::V2 } else { Version::V1 }
}

fn named(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

fn write(path: &Path, value: &str) -> io::Result<()> {
    std::fs::write(path, value).map_err(|error| named(path, &error))
}

fn below(root: &str, path: &str) -> PathBuf {
    Path::new(root).join(path.trim_start_matches('/'))
}

/// The folders of the group, one for each version-1 controller that is mounted.
fn folders(path: &str) -> Vec<(&'static str, PathBuf)> {
    match version() {
        Version::V2 => vec![("", below(ROOT, path))],
        Version::V1 => V1_CONTROLLERS
            .iter()
            .map(|controller| (*controller, below(&format!("{ROOT}/{controller}"), path)))
            .filter(|(controller, _)| Path::new(ROOT).join(controller).exists())
            .collect(),
    }
}

/// Makes the group and its parents.
pub fn create(path: &str) -> io::Result<()> {
    for (_, folder) in folders(path) {
        std::fs::create_dir_all(&folder).map_err(|error| named(&folder, &error))?;
    }
    if version() == Version::V2 {
        enable_controllers(path)?;
    }
    Ok(())
}

/// Version 2: every ancestor must hand its controllers on.
fn enable_controllers(path: &str) -> io::Result<()> {
    let mut folder = PathBuf::from(ROOT);
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    for part in parts {
        let there = std::fs::read_to_string(folder.join("cgroup.controllers")).map_err(|error| named(&folder, &error))?;
        for controller in V2_CONTROLLERS.iter().filter(|name| there.split_whitespace().any(|there| there == **name)) {
            write(&folder.join("cgroup.subtree_control"), &format!("+{controller}"))?;
        }
        folder.push(part);
    }
    Ok(())
}

pub fn set(path: &str, limits: &Limits) -> io::Result<()> {
    for (controller, folder) in folders(path) {
        for (file, value) in assignments(controller, limits) {
            write(&folder.join(file), &value)?;
        }
    }
    Ok(())
}

/// Which files of one folder get which values. Controller empty: version 2.
fn assignments(controller: &str, limits: &Limits) -> Vec<(&'static str, String)> {
    let mut out = Vec::new();
    let max = |value: i64| if value < 0 { "max".to_owned() } else { value.to_string() };
    match controller {
        "cpu" => {
            out.extend(limits.cpu_shares.map(|shares| ("cpu.shares", shares.to_string())));
            if let Some(quota) = limits.cpu_quota_us {
                out.push(("cpu.cfs_period_us", limits.cpu_period_us.to_string()));
                out.push(("cpu.cfs_quota_us", quota.to_string()));
            }
        }
        "memory" => out.extend(limits.memory_bytes.map(|bytes| ("memory.limit_in_bytes", bytes.to_string()))),
        "pids" => out.extend(limits.pids.map(|count| ("pids.max", max(count)))),
        _ => {
            out.extend(limits.cpu_shares.map(|shares| ("cpu.weight", weight(shares).to_string())));
            out.extend(limits.cpu_quota_us.map(|quota| ("cpu.max", format!("{} {}", max(quota), limits.cpu_period_us))));
            out.extend(limits.memory_bytes.map(|bytes| ("memory.max", max(bytes))));
            out.extend(limits.pids.map(|count| ("pids.max", max(count))));
        }
    }
    out
}

/// Version 1's shares (2 to 262144) as version 2's weight (1 to 10000); KEP-2254.
fn weight(shares: i64) -> i64 {
    1 + ((shares.clamp(2, 262_144) - 2) * 9999) / 262_142
}

/// Removes the group and what is below it. A group with processes stays and is an error.
pub fn remove(path: &str) -> io::Result<()> {
    let mut all: Vec<PathBuf> = folders(path).into_iter().map(|(_, folder)| folder).collect();
    if version() == Version::V1 {
        // The runtime made the group in hierarchies that `create` leaves alone.
        let entries = std::fs::read_dir(ROOT)?;
        all = entries.filter_map(Result::ok).map(|entry| entry.path().join(path.trim_start_matches('/'))).collect();
    }
    // One hierarchy that is still in use does not keep the others.
    let results: Vec<io::Result<()>> = all.iter().filter(|folder| folder.is_dir()).map(|folder| remove_tree(folder)).collect();
    results.into_iter().collect()
}

fn remove_tree(folder: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(folder).map_err(|error| named(folder, &error))? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_tree(&entry.path())?;
        }
    }
    match std::fs::remove_dir(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(named(folder, &error)),
        _ => Ok(()),
    }
}

/// The names of the groups directly below `path`.
pub fn children(path: &str) -> io::Result<Vec<String>> {
    let Some((_, folder)) = folders(path).into_iter().next() else { return Ok(Vec::new()) };
    let entries = match std::fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(named(&folder, &error)),
    };
    let folder_name = |entry: std::fs::DirEntry| entry.file_type().ok()?.is_dir().then(|| entry.file_name().into_string().ok())?;
    Ok(entries.filter_map(Result::ok).filter_map(folder_name).collect())
}

pub fn usage(path: &str) -> io::Result<Usage> {
    match version() {
        Version::V1 => usage_v1(path),
        Version::V2 => usage_v2(&below(ROOT, path)),
    }
}

fn usage_v1(path: &str) -> io::Result<Usage> {
    let memory = below(&format!("{ROOT}/memory"), path);
    let cpu = below(&format!("{ROOT}/cpuacct"), path);
    let stat = read(&memory.join("memory.stat"))?;
    let total = number(&read(&memory.join("memory.usage_in_bytes"))?);
    // The root's usage_in_bytes counts all page cache, too; the same rule as cAdvisor's.
    Ok(Usage {
        cpu_ns: read(&cpu.join("cpuacct.usage")).map(|text| number(&text)).unwrap_or(0),
        memory_bytes: total,
        working_set_bytes: total.saturating_sub(field(&stat, "total_inactive_file")),
        rss_bytes: field(&stat, "total_rss"),
        page_faults: field(&stat, "total_pgfault"),
        major_page_faults: field(&stat, "total_pgmajfault"),
    })
}

fn usage_v2(folder: &Path) -> io::Result<Usage> {
    let stat = read(&folder.join("memory.stat"))?;
    // The root group has no memory.current.
    let total =
        read(&folder.join("memory.current")).map(|text| number(&text)).unwrap_or_else(|_| field(&stat, "anon") + field(&stat, "file"));
    Ok(Usage {
        cpu_ns: field(&read(&folder.join("cpu.stat"))?, "usage_usec") * 1000,
        memory_bytes: total,
        working_set_bytes: total.saturating_sub(field(&stat, "inactive_file")),
        rss_bytes: field(&stat, "anon"),
        page_faults: field(&stat, "pgfault"),
        major_page_faults: field(&stat, "pgmajfault"),
    })
}

fn read(path: &Path) -> io::Result<String> {
    std::fs::read_to_string(path).map_err(|error| named(path, &error))
}

fn number(text: &str) -> u64 {
    text.trim().parse().unwrap_or(0)
}

fn field(text: &str, name: &str) -> u64 {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')).map_or(0, number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_both_versions() {
        let limits =
            Limits { cpu_shares: Some(1024), cpu_quota_us: Some(-1), cpu_period_us: 100_000, memory_bytes: Some(1 << 20), pids: Some(-1) };
        let check = |controller: &str, expected: &[(&str, &str)]| {
            let got = assignments(controller, &limits);
            let got: Vec<(&str, &str)> = got.iter().map(|(file, value)| (*file, value.as_str())).collect();
            assert_eq!(got, expected, "{controller}");
        };
        check("cpu", &[("cpu.shares", "1024"), ("cpu.cfs_period_us", "100000"), ("cpu.cfs_quota_us", "-1")]);
        check("memory", &[("memory.limit_in_bytes", "1048576")]);
        check("pids", &[("pids.max", "max")]);
        check("", &[("cpu.weight", "39"), ("cpu.max", "max 100000"), ("memory.max", "1048576"), ("pids.max", "max")]);
    }

    #[test]
    fn fields_are_found_by_their_whole_name() {
        let text = "total_rss_huge 5\ntotal_rss 7\n";
        assert_eq!(field(text, "total_rss"), 7);
        assert_eq!(field(text, "none"), 0);
    }
}
