//! What the machine is: sizes, identity, addresses. Reads /proc and /sys once, at start.

use std::collections::BTreeMap;
use std::net::{IpAddr, UdpSocket};
use std::path::Path;

use api::Quantity;
use api::core::v1::NodeSystemInfo;

use crate::context::Machine;
use crate::options::{ConfigError, Settings};
use crate::pod::resources::{millis, units};
use crate::runtime::cri::RuntimeVersion;

/// The version that clients see: the API level that this is.
pub const KUBELET_VERSION: &str = "v1.36.0";

fn read(path: &str) -> String {
    std::fs::read_to_string(path).map(|text| text.trim().to_owned()).unwrap_or_default()
}

/// `amd64`, `arm64`, ...: Go's name of the architecture.
pub fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

pub fn system_info(runtime: &RuntimeVersion) -> NodeSystemInfo {
    let machine_id = Some(read("/etc/machine-id")).filter(|id| !id.is_empty()).unwrap_or_else(|| read("/var/lib/dbus/machine-id"));
    let uuid = Some(read("/sys/class/dmi/id/product_uuid")).filter(|id| !id.is_empty()).unwrap_or_else(|| machine_id.clone());
    let release = read("/etc/os-release");
    let os_image = release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME=")).map(|name| name.trim_matches('"').to_owned());
    NodeSystemInfo {
        architecture: architecture().into(),
        boot_id: read("/proc/sys/kernel/random/boot_id"),
        container_runtime_version: format!("{}://{}", runtime.name, runtime.version.trim_start_matches('v')),
        kernel_version: rustix::system::uname().release().to_string_lossy().into_owned(),
        kube_proxy_version: String::new(),
        kubelet_version: KUBELET_VERSION.into(),
        machine_id,
        operating_system: "linux".into(),
        os_image: os_image.unwrap_or_else(|| "Linux".into()),
        swap: None,
        system_uuid: uuid,
    }
}

/// The node's addresses: as told, else that of the default route, else the first that is not loopback.
pub fn addresses(settings: &Settings) -> Result<Vec<String>, ConfigError> {
    if !settings.node_ips.is_empty() {
        return Ok(settings.node_ips.iter().map(ToString::to_string).collect());
    }
    let found = routed_address().or_else(|| local_address(&read("/proc/net/fib_trie")));
    found.map(|ip| vec![ip.to_string()]).ok_or_else(|| {
        ConfigError::Invalid("this machine has no address but loopback; set --node-ip to the address that others reach it by".into())
    })
}

/// The address that a packet to the world would leave from; connecting a datagram socket sends nothing.
fn routed_address() -> Option<IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("192.0.2.1:9").ok()?;
    socket.local_addr().ok().map(|address| address.ip()).filter(|ip| !ip.is_unspecified() && !ip.is_loopback())
}

/// The first `/32 host LOCAL` entry of fib_trie outside 127/8.
fn local_address(trie: &str) -> Option<IpAddr> {
    let mut last = None;
    for line in trie.lines() {
        if let Some(text) = line.trim().strip_prefix("|-- ") {
            last = text.parse::<IpAddr>().ok();
        } else if line.contains("/32 host LOCAL")
            && let Some(ip) = last.filter(|ip| !ip.is_loopback())
        {
            return Some(ip);
        }
    }
    None
}

/// Bytes of the file system that holds `path`: size and what is available.
pub fn disk(path: &Path) -> std::io::Result<(u64, u64)> {
    let stat = rustix::fs::statvfs(path)?;
    Ok((stat.f_blocks * stat.f_frsize, stat.f_bavail * stat.f_frsize))
}

/// Inodes of that file system: all and free ones.
pub fn inodes(path: &Path) -> std::io::Result<(u64, u64)> {
    let stat = rustix::fs::statvfs(path)?;
    Ok((stat.f_files, stat.f_ffree))
}

/// `(total, available)` memory in bytes.
pub fn memory() -> (u64, u64) {
    let text = read("/proc/meminfo");
    let field = |name: &str| -> u64 {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0) * 1024
    };
    (field("MemTotal:"), field("MemAvailable:"))
}

/// Whether swap is on.
pub fn has_swap() -> bool {
    read("/proc/swaps").lines().count() > 1
}

/// An eviction threshold, `100Mi` or `10%` of the whole, in bytes.
pub fn threshold(text: &str, whole: u64) -> Option<u64> {
    if let Some(percent) = text.strip_suffix('%') {
        let percent: f64 = percent.trim().parse().ok().filter(|percent: &f64| (0.0..=100.0).contains(percent))?;
        return Some((whole as f64 * percent / 100.0) as u64);
    }
    u64::try_from(api::quantity::parse(text).ok()?.value()).ok()
}

/// Capacity, and what of it pods may use (pkg/kubelet/cm/node_container_manager_linux.go).
pub fn machine(settings: &Settings) -> Result<Machine, ConfigError> {
    let cpus = read("/proc/cpuinfo").lines().filter(|line| line.starts_with("processor")).count().max(1);
    let (memory, _) = memory();
    std::fs::create_dir_all(&settings.root_dir)
        .map_err(|error| ConfigError::Invalid(format!("--root-dir {}: {error}", settings.root_dir.display())))?;
    let (disk, _) = disk(&settings.root_dir).map_err(|error| ConfigError::Invalid(format!("--root-dir: {error}")))?;
    let quantity = |text: String| Quantity(text);
    let capacity = BTreeMap::from([
        ("cpu".to_owned(), quantity(cpus.to_string())),
        ("memory".to_owned(), quantity(format!("{}Ki", memory / 1024))),
        ("ephemeral-storage".to_owned(), quantity(format!("{}Ki", disk / 1024))),
        ("pods".to_owned(), quantity(settings.max_pods.to_string())),
        ("hugepages-1Gi".to_owned(), quantity("0".into())),
        ("hugepages-2Mi".to_owned(), quantity("0".into())),
    ]);
    let reserved = |name: &str| -> i64 {
        let all = [&settings.kube_reserved, &settings.system_reserved];
        all.iter().filter_map(|list| list.get(name)).map(|text| millis(Some(&Quantity(text.clone())))).sum()
    };
    let kept = |signal: &str, whole: u64| settings.eviction_hard.get(signal).and_then(|text| threshold(text, whole)).unwrap_or(0);
    let left = |whole: u64, name: &str, signal: &str| {
        let reserved = u64::try_from(reserved(name) / 1000).unwrap_or(0);
        whole.saturating_sub(reserved).saturating_sub(kept(signal, whole))
    };
    let cpu_milli = (cpus as i64 * 1000 - reserved("cpu")).max(0);
    let cpu = if cpu_milli % 1000 == 0 { (cpu_milli / 1000).to_string() } else { format!("{cpu_milli}m") };
    let mut allocatable = capacity.clone();
    allocatable.insert("cpu".into(), quantity(cpu));
    allocatable.insert("memory".into(), quantity(format!("{}Ki", left(memory, "memory", "memory.available") / 1024)));
    allocatable.insert("ephemeral-storage".into(), quantity(left(disk, "ephemeral-storage", "nodefs.available").to_string()));
    let memory_bytes = units(capacity.get("memory"));
    Ok(Machine { capacity, allocatable, memory_bytes, addresses: addresses(settings)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thresholds() {
        for (text, expected) in [("10%", Some(100)), ("100", Some(100)), ("1Ki", Some(1024)), ("x", None), ("200%", None)] {
            assert_eq!(threshold(text, 1000), expected, "{text}");
        }
    }

    #[test]
    fn the_first_real_address_is_found() {
        let trie = "  |-- 127.0.0.1\n     /32 host LOCAL\n  |-- 10.1.2.0\n     /24 link UNICAST\n  |-- 10.1.2.3\n     /32 host LOCAL\n";
        assert_eq!(local_address(trie).map(|ip| ip.to_string()).as_deref(), Some("10.1.2.3"));
    }
}
