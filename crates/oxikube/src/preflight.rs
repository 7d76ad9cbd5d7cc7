//! What must hold before a cluster starts: each check names the cause and the remedy. Changes nothing on the host.

use std::net::{IpAddr, SocketAddr, TcpListener};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::containerd;
use crate::layout::Layout;
use crate::options::UpOptions;

/// Free space below which nothing is started.
const MIN_FREE_BYTES: u64 = 256 * 1024 * 1024;
const PORT_TRIES: usize = 20;
const PORT_PAUSE: Duration = Duration::from_millis(50);
/// 2025-01-01: no certificate of ours can be older than the program.
const OLDEST_SANE_TIME_S: i64 = 1_735_689_600;
/// Programs that the node needs on PATH, with the Debian package that brings each.
const PROGRAMS: &[(&str, &str)] = &[("nft", "nftables"), ("conntrack", "conntrack")];
const RUNTIME_PROGRAMS: &[(&str, &str)] = &[("containerd", "containerd"), ("runc", "runc"), ("ctr", "containerd")];

/// Runs every check and reports all that fail at once.
pub fn check(options: &UpOptions) -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        bail!("oxikube up must run as root: it makes network interfaces, cgroups and mounts. Try: sudo oxikube up");
    }
    let mut faults = Vec::new();
    let mut note = |result: Result<()>| {
        if let Err(error) = result {
            faults.push(format!("{error:#}"));
        }
    };
    note(clock(base::clock::now()));
    note(authority_is_valid(&options.layout(), base::clock::now()));
    note(programs(options));
    for (port, flag) in options.ports() {
        note(port_free(port, flag));
    }
    note(space(&options.layout().data));
    if let Some(endpoint) = &options.container_runtime_endpoint {
        note(runtime_answers(endpoint));
    }
    match faults.as_slice() {
        [] => Ok(()),
        [one] => bail!("{one}"),
        many => bail!("the cluster cannot start:\n  - {}", many.join("\n  - ")),
    }
}

fn clock(now: jiff::Timestamp) -> Result<()> {
    if now.as_second() < OLDEST_SANE_TIME_S {
        bail!("the clock says {now}, which is before this program was made: certificates would be invalid. Set the clock, then try again");
    }
    Ok(())
}

/// A cluster that was made before has an authority whose time the clock must be in: else every certificate fails, with less telling errors.
fn authority_is_valid(layout: &Layout, now: jiff::Timestamp) -> Result<()> {
    let path = layout.pki().join("ca.crt");
    let Some(pem) = pki::files::read(&path).with_context(|| format!("reading {}", path.display()))? else { return Ok(()) };
    let authority = pki::Certificate::from_pem(&pem).with_context(|| format!("reading {}", path.display()))?;
    authority.check_time(now).with_context(|| {
        format!(
            "the clock says {now}, and the cluster's authority {} is not valid then. Set the clock; if it is right, the authority must be replaced",
            path.display()
        )
    })
}

fn programs(options: &UpOptions) -> Result<()> {
    let own_runtime = options.container_runtime_endpoint.is_none();
    let missing: Vec<&(&str, &str)> =
        PROGRAMS.iter().chain(if own_runtime { RUNTIME_PROGRAMS } else { &[] }).filter(|(program, _)| !on_path(program)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let names: Vec<&str> = missing.iter().map(|(program, _)| *program).collect();
    let mut packages: Vec<&str> = missing.iter().map(|(_, package)| *package).collect();
    packages.dedup();
    bail!("not found on PATH: {}. On Debian: apt-get install {}", names.join(", "), packages.join(" "))
}

fn on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| dir.join(program).is_file())
}

/// A process that was killed a moment ago may still hold its ports: they get a moment to become free.
fn port_free(port: u16, flag: &str) -> Result<()> {
    let bind = || TcpListener::bind(SocketAddr::from(([0, 0, 0, 0], port)));
    let mut bound = bind();
    for _ in 0..PORT_TRIES {
        if !bound.as_ref().is_err_and(|error| error.kind() == std::io::ErrorKind::AddrInUse) {
            break;
        }
        std::thread::sleep(PORT_PAUSE);
        bound = bind();
    }
    match bound {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {
            bail!("port {port} is taken by another process (see: ss -ltnp 'sport = :{port}'). End it, or choose another port with {flag}")
        }
        Err(error) => Err(error).with_context(|| format!("trying port {port}")),
    }
}

fn space(data: &Path) -> Result<()> {
    let existing = data.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
    let stat = rustix::fs::statvfs(existing).with_context(|| format!("asking for the free space of {}", existing.display()))?;
    let free = stat.f_bavail * stat.f_frsize;
    if free < MIN_FREE_BYTES {
        bail!(
            "only {} MB are free on the disk of {}, {} MB are needed. Make space, or choose another place with --data-dir",
            free / 1_000_000,
            data.display(),
            MIN_FREE_BYTES / 1_000_000
        );
    }
    Ok(())
}

fn runtime_answers(endpoint: &str) -> Result<()> {
    let path = Path::new(endpoint.strip_prefix("unix://").unwrap_or(endpoint));
    if !path.exists() {
        bail!(
            "no container runtime at {}: the socket does not exist. Start the runtime, or leave --container-runtime-endpoint out to use oxikube's own containerd",
            path.display()
        );
    }
    if !containerd::answers(path) {
        bail!("the container runtime's socket {} is dead: nothing accepts connections on it. Start the runtime again", path.display());
    }
    Ok(())
}

/// The address of this host that other nodes and pods reach: that of the interface of the default route, else the first global one.
pub fn node_address() -> Result<IpAddr> {
    let probe = std::net::UdpSocket::bind("0.0.0.0:0").context("opening a UDP socket")?;
    // Connecting a UDP socket sends nothing; it only makes the kernel choose the source address.
    if probe.connect("198.51.100.1:9").is_ok()
        && let Ok(address) = probe.local_addr()
        && !address.ip().is_loopback()
        && !address.ip().is_unspecified()
    {
        return Ok(address.ip());
    }
    bail!("this host has no default route, so its address cannot be told. Name the address of one of its interfaces with --node-ip")
}
