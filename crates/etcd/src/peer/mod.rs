//! The network between members: `Peers` carries what the store says to other members, `PeerHandler` hands the store what they say. Over HTTP/2 on the peer
//! URLs, with a connection for each lane, so that heartbeats wait for nothing. Must never look into a message.

mod frame;
mod greeting;
mod handler;
mod lane;
mod remote;
mod snapshot;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use http_body_util::{BodyExt, Full, Limited};
use parking_lot::{Mutex, RwLock};
use pki::tls::ServingCertificate;
use store::{Engine, KvError, Member, MessageKind, OutgoingSnapshot};
use tokio::sync::{Notify, mpsc, watch};
use tokio_rustls::TlsConnector;
use tonic::body::Body;
use tonic::{Code, Status};
use tower::Service;

use self::greeting::Greeting;
pub use self::greeting::already_bootstrapped;
pub use self::handler::PeerHandler;
use self::lane::{Ends, Lane};
pub use self::remote::{RemoteError, RemoteMember, remote_cluster};
use crate::options::TlsFiles;
use crate::server::metrics::Peers as Traffic;
use crate::{ConnectError, Dial, Transport, errors};

const HEARTBEATS: &str = "/oxikube/peer/heartbeats";
const APPENDS: &str = "/oxikube/peer/appends";
const SNAPSHOTS: &str = "/oxikube/peer/snapshots";
const QUESTIONS: &str = "/oxikube/peer/questions";
/// The code of an answer that is an error.
const CODE_HEADER: &str = "x-oxikube-code";
const ANSWER_BYTES: usize = 16 << 20;
/// Snapshots that may wait to be begun: one to each of a few members.
const ORDERS: usize = 64;
/// A broken connection is seen this fast.
const KEEPALIVE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(3));

/// How members are reached. Each attempt is one connection; who wants more tries again.
pub fn dial() -> Dial {
    Dial { search: Duration::ZERO, keepalive: KEEPALIVE, ..Dial::default() }
}

/// The client's side of the peers' TLS, with the certificate that is renewed with the server's.
pub fn connector(files: &TlsFiles, certificate: Option<Arc<ServingCertificate>>) -> Result<Option<TlsConnector>, pki::Error> {
    let Some(authorities) = files.trusted_ca.as_ref().map(|path| pki::files::read_required(path)).transpose()? else { return Ok(None) };
    let mut config = match certificate {
        Some(certificate) => pki::tls::renewed_client_config(&authorities, certificate)?,
        None => pki::tls::client_config(&authorities, None)?,
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(Some(TlsConnector::from(Arc::new(config))))
}

/// The other members, as this one reaches them.
pub struct Peers {
    cluster_id: u64,
    member_id: u64,
    own_urls: Vec<String>,
    tls: Option<TlsConnector>,
    tasks: base::Tasks,
    reached: RwLock<HashMap<u64, Arc<Peer>>>,
    wanted: watch::Sender<Wanted>,
    orders: mpsc::Sender<(u64, OutgoingSnapshot)>,
    taken: Mutex<Option<mpsc::Receiver<(u64, OutgoingSnapshot)>>>,
    is_fresh: AtomicBool,
    lost: Notify,
    /// For metrics.
    pub traffic: Traffic,
}

/// Whom to reach, by id, and where.
#[derive(Clone, Debug, Default)]
struct Wanted {
    members: BTreeMap<u64, Vec<String>>,
    /// Who spoke to us before we have heard that it is a member.
    heard: BTreeMap<u64, Vec<String>>,
}

struct Peer {
    urls: Vec<String>,
    heartbeats: Arc<Lane>,
    appends: Arc<Lane>,
    /// For questions.
    transport: Transport,
    tasks: base::Tasks,
}

impl Peers {
    /// `is_fresh`: the data folder is new, see `started`.
    pub fn new(
        cluster_id: u64,
        member_id: u64,
        own_urls: Vec<String>,
        tls: Option<TlsConnector>,
        is_fresh: bool,
        tasks: &base::Tasks,
    ) -> Arc<Self> {
        let (orders, taken) = mpsc::channel(ORDERS);
        Arc::new(Self {
            cluster_id,
            member_id,
            own_urls,
            tls,
            tasks: tasks.child(),
            reached: RwLock::default(),
            wanted: watch::Sender::default(),
            orders,
            taken: Mutex::new(Some(taken)),
            is_fresh: AtomicBool::new(is_fresh),
            lost: Notify::new(),
            traffic: Traffic::default(),
        })
    }

    /// Reaches the members that the store names, until the tasks stop.
    pub async fn run(self: Arc<Self>, engine: Engine) {
        let Some(mut orders) = self.taken.lock().take() else { return };
        let mut wanted = self.wanted.subscribe();
        wanted.mark_changed();
        loop {
            tokio::select! {
                changed = wanted.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    let now = wanted.borrow_and_update().clone();
                    self.reach(&now, &engine);
                }
                Some((to, snapshot)) = orders.recv() => self.begin_snapshot(to, snapshot, &engine),
            }
        }
    }

    /// Opens and closes lanes.
    fn reach(self: &Arc<Self>, wanted: &Wanted, engine: &Engine) {
        let mut all = wanted.heard.clone();
        all.retain(|id, _| !engine.is_removed(*id));
        all.extend(wanted.members.clone());
        all.remove(&self.member_id);
        let mut reached = self.reached.write();
        reached.retain(|id, peer| {
            let stays = all.get(id).is_some_and(|urls| *urls == peer.urls);
            if !stays {
                tracing::info!(peer = format!("{id:x}"), urls = peer.urls.join(","), "stopped remote peer");
                peer.tasks.stop();
                self.traffic.forget(*id);
            }
            stays
        });
        for (id, urls) in all {
            if reached.contains_key(&id) {
                continue;
            }
            match self.start(id, &urls, engine) {
                Ok(peer) => {
                    tracing::info!(peer = format!("{id:x}"), urls = urls.join(","), "started remote peer");
                    reached.insert(id, Arc::new(peer));
                }
                Err(error) => tracing::error!(peer = format!("{id:x}"), %error, "a member cannot be reached: see its peer URLs"),
            }
        }
    }

    fn start(self: &Arc<Self>, to: u64, urls: &[String], engine: &Engine) -> Result<Peer, ConnectError> {
        let tasks = self.tasks.child();
        let transport = || Transport::new(urls, self.tls.as_ref(), &dial(), &tasks);
        let peer = Peer {
            urls: urls.to_vec(),
            heartbeats: Lane::new(HEARTBEATS, self.traffic.of(to)),
            appends: Lane::new(APPENDS, self.traffic.of(to)),
            transport: transport()?,
            tasks: tasks.clone(),
        };
        for lane in [&peer.heartbeats, &peer.appends] {
            let ends = Ends { engine: engine.clone(), transport: transport()?, peers: self.clone(), to };
            tasks.spawn("messages to a peer", lane.clone().run(ends));
        }
        Ok(peer)
    }

    fn begin_snapshot(self: &Arc<Self>, to: u64, snapshot: OutgoingSnapshot, engine: &Engine) {
        let Some(peer) = self.peer(to) else { return engine.snapshot_sent(to, false) };
        match Transport::new(&peer.urls, self.tls.as_ref(), &dial(), &peer.tasks) {
            Ok(transport) => {
                let ends = Ends { engine: engine.clone(), transport, peers: self.clone(), to };
                peer.tasks.spawn("a snapshot to a peer", snapshot::send(ends, snapshot));
            }
            Err(error) => {
                tracing::error!(peer = format!("{to:x}"), %error, "a snapshot cannot be sent");
                engine.snapshot_sent(to, false);
            }
        }
    }

    fn peer(&self, id: u64) -> Option<Arc<Peer>> {
        self.reached.read().get(&id).cloned()
    }

    fn greeting(&self, to: u64) -> Greeting {
        Greeting {
            cluster_id: self.cluster_id,
            from: self.member_id,
            to,
            peer_urls: self.own_urls.clone(),
            is_fresh: self.is_fresh.load(Ordering::Acquire),
        }
    }

    /// Changes with the members.
    fn changes(&self) -> watch::Receiver<Wanted> {
        self.wanted.subscribe()
    }

    /// A member that is not known here speaks to us: it may have joined after all that this one has heard, so it must get answers.
    fn hear(&self, from: u64, urls: Vec<String>) {
        let is_known = |wanted: &Wanted| wanted.members.contains_key(&from) || wanted.heard.get(&from) == Some(&urls);
        if !urls.is_empty() && !is_known(&self.wanted.borrow()) {
            self.wanted.send_modify(|wanted| {
                wanted.heard.insert(from, urls);
            });
        }
    }

    /// From now on others may know this member as started. Until then, one that knows it so already tells that its data was lost.
    pub fn started(&self) {
        self.is_fresh.store(false, Ordering::Release);
    }

    fn lost_data(&self) {
        self.lost.notify_one();
    }

    /// Resolves when another member says that this one, which began with an empty folder, has been one before.
    pub async fn data_is_lost(&self) {
        self.lost.notified().await;
    }
}

impl store::Transport for Peers {
    fn send(&self, to: u64, message: Bytes, kind: MessageKind) {
        if let Some(peer) = self.reached.read().get(&to) {
            match kind {
                MessageKind::Heartbeat | MessageKind::Vote => peer.heartbeats.send(message),
                MessageKind::Append | MessageKind::Other => peer.appends.send(message),
            }
        }
    }

    fn send_snapshot(&self, to: u64, snapshot: OutgoingSnapshot) {
        if self.orders.try_send((to, snapshot)).is_err() && !self.tasks.is_stopping() {
            tracing::error!(peer = format!("{to:x}"), "a snapshot was dropped: too many wait to be sent");
        }
    }

    fn ask(&self, to: u64, question: Bytes) -> store::Answer {
        let request = self.greeting(to).request(QUESTIONS, Body::new(Full::new(question)));
        let peer = self.peer(to);
        Box::pin(async move {
            let unavailable = KvError::Unavailable;
            let peer = peer.ok_or_else(|| unavailable(format!("member {to:x} is not known")))?;
            let request = request.map_err(unavailable)?;
            let response = peer.transport.clone().call(request).await.map_err(|status| unavailable(status.message().to_owned()))?;
            let (head, body) = response.into_parts();
            let body = Limited::new(body, ANSWER_BYTES).collect().await.map_err(|error| unavailable(error.to_string()))?.to_bytes();
            if head.status == StatusCode::OK {
                return Ok(body);
            }
            let text = String::from_utf8_lossy(&body).into_owned();
            let code = head.headers.get(CODE_HEADER).and_then(|code| code.to_str().ok()?.parse().ok());
            Err(code
                .map_or_else(|| KvError::Unavailable(text.clone()), |code| errors::from_status(&Status::new(Code::from_i32(code), &text))))
        })
    }

    fn members_changed(&self, members: &[Member]) {
        let members = members.iter().map(|member| (member.id, member.peer_urls.clone())).collect();
        self.wanted.send_modify(|wanted| {
            wanted.heard.retain(|id, _| !BTreeMap::contains_key(&members, id));
            wanted.members = members;
        });
    }

    fn connected_for(&self, peer: u64) -> Option<Duration> {
        self.reached.read().get(&peer)?.heartbeats.open_for()
    }
}
