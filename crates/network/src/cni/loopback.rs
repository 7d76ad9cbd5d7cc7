//! The `loopback` plugin, which containerd wants beside every network: it sets `lo` up.

use std::path::Path;

use host::{Change, LinuxNet, Mac, Net};

use super::config::NetConf;
use super::result::{self, Interface, Ip};
use super::{CniError, Env, code};

pub fn run(env: &Env, conf: &NetConf) -> Result<String, CniError> {
    match env.command.as_str() {
        "ADD" => {
            LinuxNet::in_netns(Path::new(&env.netns))?.apply(&Change::SetUp { name: "lo".into() })?;
            if let Some(previous) = &conf.prev_result {
                return Ok(previous.to_string());
            }
            let interface = Interface { name: "lo", mac: Mac::default(), mtu: 65536, sandbox: &env.netns };
            let ip = |net: &str| Ip { address: net.parse().expect("a constant address"), gateway: None, interface: 0 };
            Ok(result::print(&conf.cni_version, &[interface], &[ip("127.0.0.1/8"), ip("::1/128")], &[]))
        }
        "CHECK" => match LinuxNet::in_netns(Path::new(&env.netns))?.link("lo")? {
            Some(link) if link.up => Ok(String::new()),
            _ => Err(CniError::new(code::DIFFERS, "loopback interface is down")),
        },
        "DEL" | "GC" | "STATUS" => Ok(String::new()),
        other => Err(CniError::new(code::INVALID_ENVIRONMENT, format!("CNI_COMMAND is {other:?}"))),
    }
}
