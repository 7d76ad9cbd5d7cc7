//! What every part of the kubelet shares. Holds no logic.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use api::Quantity;
use api::core::v1::{Node, ObjectReference, Pod, Service};
use client::{Client, EventType, Informer, Recorder};
use parking_lot::{Mutex, RwLock};

use crate::eviction::Pressure;
use crate::objects::Objects;
use crate::options::Settings;
use crate::pod;
use crate::pod::images::Images;
use crate::runtime::Cri;
use crate::runtime::pleg::Pleg;
use crate::status_manager::StatusManager;
use crate::volumes::tokens::Tokens;

/// What the machine offers, found once at start, and the node's own addresses.
#[derive(Clone, Debug, Default)]
pub struct Machine {
    pub capacity: BTreeMap<String, Quantity>,
    pub allocatable: BTreeMap<String, Quantity>,
    pub memory_bytes: i64,
    pub addresses: Vec<String>,
}

pub struct Context {
    pub settings: Settings,
    pub client: Client,
    pub cri: Cri,
    pub pleg: Arc<Pleg>,
    pub images: Images,
    pub objects: Objects,
    pub tokens: Tokens,
    pub services: Informer<Service>,
    pub node: Informer<Node>,
    pub pods: Informer<Pod>,
    pub statuses: StatusManager,
    pub recorder: Recorder,
    pub machine: RwLock<Machine>,
    pub pressure: RwLock<Pressure>,
    pub image_use: Mutex<crate::gc::ImageUse>,
    /// Probe attempts by their labels in `/metrics/probes`.
    pub probe_totals: Mutex<HashMap<String, u64>>,
    pub tasks: base::Tasks,
}

impl Context {
    /// Records an event about the pod, or about one of its containers by `field_path`.
    pub fn event(&self, about: &Pod, field_path: Option<&str>, kind: EventType, reason: &str, note: impl Into<String>) {
        let reference = ObjectReference {
            api_version: Some("v1".into()),
            kind: Some("Pod".into()),
            namespace: about.metadata.namespace.clone(),
            name: about.metadata.name.clone(),
            uid: Some(pod::uid(about).to_owned()),
            resource_version: about.metadata.resource_version.clone(),
            field_path: field_path.map(str::to_owned),
        };
        self.recorder.event(&reference, kind, reason, "", note);
    }

    /// Records an event about this node. Upstream's kubelet uses the node's name as its uid here.
    pub fn node_event(&self, kind: EventType, reason: &str, note: impl Into<String>) {
        let reference = ObjectReference {
            kind: Some("Node".into()),
            name: Some(self.settings.node_name.clone()),
            uid: Some(self.settings.node_name.clone()),
            ..ObjectReference::default()
        };
        self.recorder.event(&reference, kind, reason, "", note);
    }
}
