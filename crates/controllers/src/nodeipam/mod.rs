//! Gives every node its range of pod addresses, `spec.podCIDR` (pkg/controller/nodeipam/ipam/range_allocator.go).

mod plan;

use api::core::v1::Node;
use client::{Api, Client, Delta, EventType, Informer, Recorder, WorkQueue};
use kube::api::{Patch, PatchParams};
use parking_lot::Mutex;
use serde_json::json;

pub use self::plan::{RangeError, Ranges};
use crate::context::Context;
use crate::frame::{Controller, Error, Next, Result};

pub struct NodeIpam {
    nodes: Informer<Node>,
    client: Client,
    recorder: Recorder,
    state: std::sync::Arc<Mutex<State>>,
}

struct State {
    /// One per family.
    ranges: Vec<Ranges>,
    /// Ranges given to nodes by this process or found on them, to be released with the node.
    owned: std::collections::HashMap<String, Vec<String>>,
    started: bool,
}

impl State {
    fn occupy(&mut self, node: &Node) {
        let cidrs = cidrs(node);
        if cidrs.is_empty() {
            return;
        }
        for (range, cidr) in self.ranges.iter_mut().zip(&cidrs) {
            if let Err(error) = range.occupy(cidr) {
                tracing::error!(node = node.metadata.name, %error, "a node has addresses that are not the cluster's");
            }
        }
        self.owned.insert(node.metadata.name.clone().unwrap_or_default(), cidrs);
    }

    fn release(&mut self, node: &str) {
        for (range, cidr) in self.ranges.iter_mut().zip(self.owned.remove(node).unwrap_or_default()) {
            if let Err(error) = range.release(&cidr) {
                tracing::warn!(node, %error, "cannot release a node's addresses");
            }
        }
    }
}

fn cidrs(node: &Node) -> Vec<String> {
    let spec = node.spec.as_ref();
    let list = spec.and_then(|spec| spec.pod_cidrs.clone()).unwrap_or_default();
    if list.is_empty() { spec.and_then(|spec| spec.pod_cidr.clone()).filter(|cidr| !cidr.is_empty()).into_iter().collect() } else { list }
}

impl NodeIpam {
    pub fn new(context: &Context, ranges: Vec<Ranges>) -> Self {
        Self {
            nodes: context.informer(),
            client: context.client("node-controller"),
            recorder: context.recorder("node-controller"),
            state: std::sync::Arc::new(Mutex::new(State { ranges, owned: Default::default(), started: false })),
        }
    }

    /// Marks the ranges of all known nodes before the first one is given out.
    fn start(&self) {
        let nodes = self.nodes.list();
        let mut state = self.state.lock();
        if !std::mem::replace(&mut state.started, true) {
            nodes.iter().for_each(|node| state.occupy(node));
        }
    }
}

impl Controller for NodeIpam {
    type Key = String;

    fn name(&self) -> &'static str {
        "node-ipam-controller"
    }

    fn watch(&self, queue: &WorkQueue<String>) {
        let (queue, state) = (queue.clone(), self.state.clone());
        self.nodes.on_change(move |delta| match delta {
            Delta::Deleted(node) => state.lock().release(node.metadata.name.as_deref().unwrap_or_default()),
            _ if cidrs(delta.object()).is_empty() => queue.add(delta.object().metadata.name.clone().unwrap_or_default()),
            _ => {}
        });
    }

    async fn synced(&self) {
        self.nodes.synced().await;
    }

    async fn reconcile(&self, key: &String) -> Result<Next> {
        self.start();
        let Some(node) = self.nodes.get(None, key).filter(|node| cidrs(node).is_empty()) else { return Ok(Next::Done) };
        let given = {
            let mut state = self.state.lock();
            match state.owned.get(key) {
                // Given before; the write failed or is not seen yet.
                Some(given) => Ok(given.clone()),
                None => {
                    let given: std::result::Result<Vec<String>, RangeError> =
                        state.ranges.iter_mut().map(|range| range.allocate().map(|net| net.to_string())).collect();
                    if let Ok(given) = &given {
                        state.owned.insert(key.clone(), given.clone());
                    }
                    given
                }
            }
        };
        let given = match given {
            Ok(given) => given,
            Err(error) => {
                let note = format!("Node {key} status is now: CIDRNotAvailable");
                self.recorder.event(&client::object_ref(&*node), EventType::Normal, "CIDRNotAvailable", "", note);
                return Err(Error::Retry(error.to_string()));
            }
        };
        let patch = json!({"spec": {"podCIDR": given.first(), "podCIDRs": given}});
        match Api::<Node>::all(self.client.clone()).patch(key, &PatchParams::default(), &Patch::Strategic(patch)).await.map_err(Error::from)
        {
            Ok(_) => Ok(Next::Done),
            Err(error) if error.is_not_found() => {
                self.state.lock().release(key);
                Ok(Next::Done)
            }
            Err(error) => Err(error),
        }
    }
}
