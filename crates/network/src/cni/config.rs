//! The network configuration that the runtime passes on standard input.

use std::path::PathBuf;

use ipnet::IpNet;
use serde::Deserialize;
use serde_json::Value;

use super::{CniError, VERSIONS, code};

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NetConf {
    pub cni_version: String,
    pub name: String,
    #[serde(rename = "type")]
    pub kind: String,
    #[serde(default = "default_bridge")]
    pub bridge: String,
    /// Of the pods' interfaces; 0 leaves the kernel's choice.
    #[serde(default)]
    pub mtu: u32,
    /// The node's pod CIDRs, at most one per family.
    #[serde(default)]
    pub subnets: Vec<IpNet>,
    #[serde(default = "default_data_dir")]
    pub data_dir: PathBuf,
    #[serde(default)]
    pub runtime_config: RuntimeConfig,
    pub prev_result: Option<Value>,
    #[serde(rename = "cni.dev/valid-attachments")]
    pub valid_attachments: Option<Vec<Attachment>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RuntimeConfig {
    #[serde(default)]
    pub port_mappings: Vec<PortMapping>,
}

/// A host port. Source: CNI conventions, capability `portMappings`; containerd (go-cni) writes the names with capitals.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct PortMapping {
    #[serde(alias = "HostPort")]
    pub host_port: u16,
    #[serde(alias = "ContainerPort")]
    pub container_port: u16,
    #[serde(default)]
    #[serde(alias = "Protocol")]
    pub protocol: String,
    #[serde(default, rename = "hostIP")]
    #[serde(alias = "HostIP")]
    pub host_ip: String,
}

/// Who holds an address: a container's interface.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Hash)]
pub struct Attachment {
    #[serde(rename = "containerID")]
    pub container_id: String,
    pub ifname: String,
}

fn default_bridge() -> String {
    crate::BRIDGE.into()
}

fn default_data_dir() -> PathBuf {
    crate::DATA_DIR.into()
}

/// The configuration, or the version to answer in and the error.
pub fn parse(stdin: &[u8]) -> Result<NetConf, (String, CniError)> {
    let fail = |version: &str, code, message: String| Err((version.to_owned(), CniError::new(code, message)));
    let value: Value = match serde_json::from_slice(stdin) {
        Ok(value) => value,
        Err(e) => return fail("1.1.0", code::DECODE, format!("the network configuration on standard input is not JSON: {e}")),
    };
    let version = value.get("cniVersion").and_then(Value::as_str).unwrap_or("0.2.0").to_owned();
    if !VERSIONS.contains(&version.as_str()) {
        let message = format!("cniVersion {version} is not supported; supported: {}", VERSIONS.join(", "));
        return fail("1.1.0", code::INCOMPATIBLE_VERSION, message);
    }
    let conf: NetConf = match serde_json::from_value(value) {
        Ok(conf) => conf,
        Err(e) => return fail(&version, code::INVALID_CONFIG, format!("network configuration: {e}")),
    };
    match validate(&conf) {
        Ok(()) => Ok(conf),
        Err(error) => Err((version, error)),
    }
}

fn validate(conf: &NetConf) -> Result<(), CniError> {
    let bad = |message: String| Err(CniError::new(code::INVALID_CONFIG, message));
    // The name becomes a folder.
    if conf.name.is_empty() || conf.name.starts_with('.') || !conf.name.bytes().all(is_word) {
        return bad(format!("invalid network name {:?}", conf.name));
    }
    if conf.bridge.is_empty() || conf.bridge.len() > 15 || !conf.bridge.bytes().all(is_word) {
        return bad(format!("invalid bridge name {:?}", conf.bridge));
    }
    for family in [true, false] {
        if conf.subnets.iter().filter(|s| s.addr().is_ipv4() == family).count() > 1 {
            return bad("subnets: at most one IPv4 and one IPv6 CIDR".into());
        }
    }
    for mapping in &conf.runtime_config.port_mappings {
        if !matches!(mapping.protocol.to_ascii_lowercase().as_str(), "" | "tcp" | "udp" | "sctp") {
            return bad(format!("portMappings: invalid protocol {:?}", mapping.protocol));
        }
        if mapping.container_port == 0 {
            return bad("portMappings: containerPort 0".into());
        }
        if !mapping.host_ip.is_empty() && mapping.host_ip.parse::<std::net::IpAddr>().is_err() {
            return bad(format!("portMappings: invalid hostIP {:?}", mapping.host_ip));
        }
    }
    Ok(())
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.')
}

/// Container IDs and interface names become file and interface names. Source: CNI specification, "Parameters".
pub fn valid_attachment(container_id: &str, ifname: &str) -> Result<(), CniError> {
    let bad = |message: String| Err(CniError::new(code::INVALID_ENVIRONMENT, message));
    let starts_well = container_id.as_bytes().first().is_some_and(u8::is_ascii_alphanumeric);
    if !starts_well || container_id.len() > 180 || !container_id.bytes().all(is_word) {
        return bad(format!("CNI_CONTAINERID {container_id:?} is not valid"));
    }
    let forbidden = |b: u8| b == b'/' || b == b':' || b.is_ascii_whitespace();
    if ifname.is_empty() || ifname.len() > 15 || ifname == "." || ifname == ".." || ifname.bytes().any(forbidden) {
        return bad(format!("CNI_IFNAME {ifname:?} is not valid"));
    }
    Ok(())
}
