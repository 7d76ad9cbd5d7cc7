//! A `Net` that records what it was told and keeps just enough state to be asked again. For tests of those who decide.

use parking_lot::Mutex;
use serde_json::Value;
use std::collections::BTreeMap;

use crate::{Address, Change, Error, Flows, Link, LinkKind, Net, Result, Route};

/// What a `FakeNet` was told, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    Apply(Change),
    Nft(String),
    Sysctl(String, String),
    ForgetFlows(Flows),
}

#[derive(Default)]
struct State {
    calls: Vec<Call>,
    links: Vec<Link>,
    addresses: Vec<Address>,
    routes: Vec<Route>,
    sysctls: BTreeMap<String, String>,
    refuse_nft: Option<String>,
}

/// A namespace without links. Tables of packet filters are recorded as scripts, never listed.
#[derive(Default)]
pub struct FakeNet {
    state: Mutex<State>,
}

impl FakeNet {
    /// The calls since the last `take`.
    pub fn take(&self) -> Vec<Call> {
        std::mem::take(&mut self.state.lock().calls)
    }

    /// Makes the following nft scripts fail with `message`, or succeed again.
    pub fn refuse_nft(&self, message: Option<&str>) {
        self.state.lock().refuse_nft = message.map(str::to_owned);
    }
}

impl State {
    fn index(&self, name: &str) -> Result<u32> {
        self.links.iter().find(|l| l.name == name).map(|l| l.index).ok_or_else(|| Error::NoLink(name.to_owned()))
    }

    fn link_mut(&mut self, name: &str) -> Result<&mut Link> {
        self.links.iter_mut().find(|l| l.name == name).ok_or_else(|| Error::NoLink(name.to_owned()))
    }

    fn apply(&mut self, change: &Change) -> Result<()> {
        match change {
            Change::AddLink { name, kind, mac, mtu, master, up } => {
                if self.index(name).is_ok() {
                    return Err(Error::os(format!("add interface {name}"), std::io::Error::from_raw_os_error(libc::EEXIST)));
                }
                let kind = match kind {
                    LinkKind::Bridge => "bridge",
                    LinkKind::Veth { .. } => "veth",
                    LinkKind::Vxlan { .. } => "vxlan",
                };
                let master = master.as_deref().map(|m| self.index(m)).transpose()?;
                let index = self.links.iter().map(|l| l.index).max().unwrap_or(0) + 1;
                let (name, kind) = (name.clone(), kind.to_owned());
                self.links.push(Link { index, name, kind, mac: *mac, mtu: *mtu, up: *up, loopback: false, master });
            }
            Change::DeleteLink { name } => {
                if let Ok(index) = self.index(name) {
                    self.addresses.retain(|a| a.link_index != index);
                    self.routes.retain(|r| &r.link != name);
                    self.links.retain(|l| l.index != index);
                }
            }
            Change::SetUp { name } => self.link_mut(name)?.up = true,
            Change::SetMtu { name, mtu } => self.link_mut(name)?.mtu = *mtu,
            Change::SetMaster { name, master } => {
                let master = self.index(master)?;
                self.link_mut(name)?.master = Some(master);
            }
            Change::AddAddress { link, net } => {
                let address = Address { link_index: self.index(link)?, net: *net };
                if !self.addresses.contains(&address) {
                    self.addresses.push(address);
                }
            }
            Change::DeleteAddress { link, net } => {
                let link_index = self.index(link)?;
                self.addresses.retain(|a| a.link_index != link_index || a.net != *net);
            }
            Change::PutRoute(route) => {
                self.routes.retain(|r| r.dst != route.dst);
                self.routes.push(route.clone());
            }
            Change::DeleteRoute(route) => self.routes.retain(|r| r != route),
            Change::SetHairpin { .. }
            | Change::PutNeighbour { .. }
            | Change::DeleteNeighbour { .. }
            | Change::PutForwarding { .. }
            | Change::DeleteForwarding { .. } => {}
        }
        Ok(())
    }
}

impl Net for FakeNet {
    fn links(&self) -> Result<Vec<Link>> {
        Ok(self.state.lock().links.clone())
    }

    fn link(&self, name: &str) -> Result<Option<Link>> {
        Ok(self.state.lock().links.iter().find(|l| l.name == name).cloned())
    }

    fn addresses(&self) -> Result<Vec<Address>> {
        Ok(self.state.lock().addresses.clone())
    }

    fn routes(&self) -> Result<Vec<Route>> {
        Ok(self.state.lock().routes.clone())
    }

    fn apply(&self, change: &Change) -> Result<()> {
        let mut state = self.state.lock();
        state.calls.push(Call::Apply(change.clone()));
        state.apply(change)
    }

    fn nft(&self, script: &str) -> Result<()> {
        let mut state = self.state.lock();
        state.calls.push(Call::Nft(script.to_owned()));
        match &state.refuse_nft {
            Some(message) => Err(Error::Program { program: "nft", message: message.clone() }),
            None => Ok(()),
        }
    }

    fn nft_list(&self, _what: &[&str]) -> Result<Option<Vec<Value>>> {
        Ok(None)
    }

    fn sysctl(&self, key: &str) -> Result<Option<String>> {
        Ok(self.state.lock().sysctls.get(key).cloned())
    }

    fn set_sysctl(&self, key: &str, value: &str) -> Result<()> {
        let mut state = self.state.lock();
        if state.sysctls.insert(key.to_owned(), value.to_owned()).as_deref() != Some(value) {
            state.calls.push(Call::Sysctl(key.to_owned(), value.to_owned()));
        }
        Ok(())
    }

    fn forget_flows(&self, flows: &Flows) -> Result<()> {
        self.state.lock().calls.push(Call::ForgetFlows(flows.clone()));
        Ok(())
    }
}
