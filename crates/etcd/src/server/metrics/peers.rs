//! Traffic with the other members (server/etcdserver/api/rafthttp/metrics.go). Whoever sends and receives counts here.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;

use super::text::Page;
use super::{Counter, Gauge};

/// What went to and came from one member.
#[derive(Default)]
pub struct PeerTraffic {
    pub sent_bytes: Counter,
    pub received_bytes: Counter,
    pub sent_failures: Counter,
    pub received_failures: Counter,
    /// Open streams to it.
    pub active: Gauge,
    pub disconnections: Counter,
}

/// By member id.
#[derive(Clone, Default)]
pub struct Peers(Arc<Mutex<BTreeMap<u64, Arc<PeerTraffic>>>>);

impl Peers {
    pub fn of(&self, member: u64) -> Arc<PeerTraffic> {
        self.0.lock().entry(member).or_default().clone()
    }

    /// A member that was removed is shown no more.
    pub fn forget(&self, member: u64) {
        self.0.lock().remove(&member);
    }

    pub fn write(&self, page: &mut Page, own: u64) {
        let peers: Vec<_> = self.0.lock().iter().map(|(id, traffic)| (format!("{id:x}"), traffic.clone())).collect();
        if peers.is_empty() {
            return;
        }
        type Count = fn(&PeerTraffic) -> u64;
        let counters: [(_, _, _, Count); 4] = [
            ("etcd_network_peer_sent_bytes_total", "Bytes to a member", "To", |peer| peer.sent_bytes.get()),
            ("etcd_network_peer_received_bytes_total", "Bytes from a member", "From", |peer| peer.received_bytes.get()),
            ("etcd_network_peer_sent_failures_total", "Messages that could not be sent", "To", |peer| peer.sent_failures.get()),
            ("etcd_network_peer_received_failures_total", "Messages that could not be read", "From", |peer| peer.received_failures.get()),
        ];
        for (name, help, label, count) in counters {
            let mut family = page.counter(name, help);
            peers.iter().for_each(|(id, traffic)| family.with(&[(label, id)], count(traffic)));
        }
        let own = format!("{own:x}");
        let mut family = page.gauge("etcd_network_active_peers", "Open streams to a member");
        peers.iter().for_each(|(id, traffic)| family.with(&[("Local", &own), ("Remote", id)], traffic.active.get()));
        let mut family = page.counter("etcd_network_disconnected_peers_total", "Streams to a member that broke");
        peers.iter().for_each(|(id, traffic)| family.with(&[("Local", &own), ("Remote", id)], traffic.disconnections.get()));
    }
}
