//! `EtcdKv`: a real etcd, or our own server, as a `store::Kv`. When a server goes, requests go on with another one where that is safe: see `attempt` and
//! `guard`. Nothing is ever done twice.

mod attempt;
mod guard;
pub(crate) mod transport;
mod watch;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use store::*;
use tokio_rustls::TlsConnector;
use tonic::Status;

use self::attempt::{Failed, Repeat};
use self::guard::Guard;
pub use self::transport::{Dial, Transport};
use self::watch::EtcdWatch;
use crate::{convert, pb};
use pb::kv_client::KvClient;
use pb::lease_client::LeaseClient;
use pb::maintenance_client::MaintenanceClient;
use pb::watch_client::WatchClient;

/// Messages from the server may have any size, as for etcd's own client.
const MESSAGE_BYTES: usize = i32::MAX as usize;

#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    #[error("etcd endpoint {url:?}: {reason}")]
    Endpoint { url: String, reason: String },
    #[error("etcd client certificate: {0}")]
    Certificate(#[from] pki::Error),
    #[error("etcd client certificate and key must both be given or neither")]
    HalfIdentity,
}

/// The files of `--etcd-cafile`, `--etcd-certfile`, `--etcd-keyfile`.
#[derive(Clone, Debug, Default)]
pub struct ClientTls {
    pub ca_file: PathBuf,
    pub cert_file: Option<PathBuf>,
    pub key_file: Option<PathBuf>,
}

impl ClientTls {
    /// HTTP/2 with these files.
    pub fn connector(&self) -> Result<TlsConnector, ConnectError> {
        let authority = pki::files::read_required(&self.ca_file)?;
        let identity = match (&self.cert_file, &self.key_file) {
            (None, None) => None,
            (Some(cert), Some(key)) => Some((pki::files::read_required(cert)?, pki::files::read_required(key)?)),
            _ => return Err(ConnectError::HalfIdentity),
        };
        let identity = identity.as_ref().map(|(cert, key)| (cert.as_str(), key.as_str()));
        let mut config = pki::tls::client_config(&authority, identity)?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(TlsConnector::from(Arc::new(config)))
    }
}

/// A store behind etcd's protocol. Cheap to clone.
#[derive(Clone)]
pub struct EtcdKv {
    transport: Transport,
    /// The newest revision that an answer named.
    newest: Arc<AtomicI64>,
}

impl EtcdKv {
    /// Takes `http://`, `https://` and `unix://` endpoints. Connects with the first request, so that the server may start later; a request that finds no
    /// endpoint for five seconds fails with `Unavailable`.
    pub fn connect(endpoints: &[String], tls: Option<&ClientTls>, tasks: &base::Tasks) -> Result<Self, ConnectError> {
        let connector = tls.map(ClientTls::connector).transpose()?;
        Ok(Self { transport: Transport::new(endpoints, connector.as_ref(), &Dial::default(), tasks)?, newest: Arc::default() })
    }

    fn newest(&self) -> Revision {
        self.newest.load(Ordering::Acquire)
    }

    fn saw(&self, revision: Revision) {
        self.newest.fetch_max(revision, Ordering::AcqRel);
    }
}

fn kv_client(transport: Transport) -> KvClient<Transport> {
    KvClient::new(transport).max_decoding_message_size(MESSAGE_BYTES)
}

fn lease_client(transport: Transport) -> LeaseClient<Transport> {
    LeaseClient::new(transport).max_decoding_message_size(MESSAGE_BYTES)
}

fn watch_client(transport: Transport) -> WatchClient<Transport> {
    WatchClient::new(transport).max_decoding_message_size(MESSAGE_BYTES)
}

fn is_read_only(txn: &Txn) -> bool {
    txn.success.iter().chain(&txn.failure).all(|op| match op {
        Op::Range(_) => true,
        Op::Put(_) | Op::Delete(_) => false,
        Op::Txn(inner) => is_read_only(inner),
    })
}

#[async_trait::async_trait]
impl Kv for EtcdKv {
    async fn range(&self, request: RangeRequest) -> Result<RangeResponse, KvError> {
        let request = convert::range_to_pb(request);
        let call = |transport| {
            let (mut client, request) = (kv_client(transport), request.clone());
            async move { client.range(request).await }
        };
        let response = convert::range_response_from_pb(self.attempt(Repeat::Always, call).await?);
        self.saw(response.revision);
        Ok(response)
    }

    async fn txn(&self, txn: Txn) -> Result<TxnResponse, KvError> {
        let repeat = if is_read_only(&txn) { Repeat::Always } else { Repeat::IfNotDone };
        let guard = Guard::of(&txn);
        let request = convert::txn_to_pb(txn);
        if let Some(guard) = guard {
            return self.guarded(&guard, request).await;
        }
        let call = |transport| {
            let (mut client, request) = (kv_client(transport), request.clone());
            async move { client.txn(request).await }
        };
        let response = convert::txn_response_from_pb(self.attempt(repeat, call).await?)?;
        self.saw(response.revision);
        Ok(response)
    }

    async fn compact(&self, revision: Revision, physical: bool) -> Result<(), KvError> {
        let mut tries = 0;
        let call = |transport| {
            tries += 1;
            let mut client = kv_client(transport);
            async move { client.compact(pb::CompactionRequest { revision, physical }).await }
        };
        match self.attempt(Repeat::Always, call).await {
            Err(Failed { error: KvError::Compacted { .. }, .. }) if tries > 1 => Ok(()),
            done => Ok(done.map(|_| ())?),
        }
    }

    async fn watch(&self, request: WatchRequest) -> Result<Box<dyn Watch>, KvError> {
        Ok(Box::new(EtcdWatch::open(self.clone(), request).await?))
    }

    /// The id is chosen here, so that the same lease is not granted twice under two.
    async fn lease_grant(&self, id: LeaseId, ttl: Duration) -> Result<LeaseStatus, KvError> {
        let seconds = ttl.as_secs() + u64::from(ttl.subsec_nanos() > 0);
        let ttl = i64::try_from(seconds).map_err(|_| KvError::LeaseTtlTooLarge)?;
        let id = if id == 0 { rand::random_range(1..LeaseId::MAX) } else { id };
        let mut tries = 0;
        let call = |transport| {
            tries += 1;
            let mut client = lease_client(transport);
            async move { client.lease_grant(pb::LeaseGrantRequest { ttl, id }).await }
        };
        match self.attempt(Repeat::Always, call).await {
            Err(Failed { error: KvError::LeaseExists, .. }) if tries > 1 => self.lease_status(id).await,
            granted => {
                let granted = granted?;
                let granted_ttl = from_seconds(granted.ttl);
                Ok(LeaseStatus { id: granted.id, granted_ttl, remaining_ttl: granted_ttl, keys: Vec::new() })
            }
        }
    }

    async fn lease_revoke(&self, id: LeaseId) -> Result<(), KvError> {
        let mut tries = 0;
        let call = |transport| {
            tries += 1;
            let mut client = lease_client(transport);
            async move { client.lease_revoke(pb::LeaseRevokeRequest { id }).await }
        };
        match self.attempt(Repeat::Always, call).await {
            Err(Failed { error: KvError::LeaseNotFound, .. }) if tries > 1 => Ok(()),
            done => Ok(done.map(|_| ())?),
        }
    }

    async fn lease_keep_alive(&self, id: LeaseId) -> Result<Duration, KvError> {
        // Renewing twice is renewing once.
        let call = |transport| {
            let mut client = lease_client(transport);
            async move {
                let once = tokio_stream::once(pb::LeaseKeepAliveRequest { id });
                let mut answers = client.lease_keep_alive(once).await?.into_inner();
                let answer = answers.message().await?;
                answer.map(tonic::Response::new).ok_or_else(|| Status::unavailable("the server ended a keep-alive without an answer"))
            }
        };
        let answer = self.attempt(Repeat::Always, call).await?;
        if answer.ttl <= 0 { Err(KvError::LeaseNotFound) } else { Ok(from_seconds(answer.ttl)) }
    }

    async fn lease_status(&self, id: LeaseId) -> Result<LeaseStatus, KvError> {
        let call = |transport| {
            let mut client = lease_client(transport);
            async move { client.lease_time_to_live(pb::LeaseTimeToLiveRequest { id, keys: true }).await }
        };
        let answer = self.attempt(Repeat::Always, call).await?;
        if answer.ttl < 0 && answer.granted_ttl == 0 {
            return Err(KvError::LeaseNotFound);
        }
        Ok(LeaseStatus { id, granted_ttl: from_seconds(answer.granted_ttl), remaining_ttl: from_seconds(answer.ttl), keys: answer.keys })
    }

    async fn leases(&self) -> Result<Vec<LeaseId>, KvError> {
        let call = |transport| {
            let mut client = lease_client(transport);
            async move { client.lease_leases(pb::LeaseLeasesRequest {}).await }
        };
        let answer = self.attempt(Repeat::Always, call).await?;
        Ok(answer.leases.into_iter().map(|lease| lease.id).collect())
    }

    /// The protocol does not tell the revision of the last compaction: it stays 0.
    async fn status(&self) -> Result<StoreStatus, KvError> {
        let call = |transport| {
            let mut client = MaintenanceClient::new(transport);
            async move { client.status(pb::StatusRequest {}).await }
        };
        let status = self.attempt(Repeat::Always, call).await?;
        // A member's own status may lag behind the cluster.
        let newest = self.range(RangeRequest { count_only: true, ..RangeRequest::new(KeyRange::one("\0")) }).await?;
        let bytes = |count: i64| u64::try_from(count).unwrap_or(0);
        Ok(StoreStatus {
            revision: newest.revision,
            compact_revision: 0,
            db_size: bytes(status.db_size),
            db_size_in_use: bytes(status.db_size_in_use),
        })
    }

    async fn put(&self, request: PutRequest) -> Result<Revision, KvError> {
        let request = convert::put_to_pb(request);
        let call = |transport| {
            let (mut client, request) = (kv_client(transport), request.clone());
            async move { client.put(request).await }
        };
        let revision = convert::revision_of(&self.attempt(Repeat::IfNotDone, call).await?.header);
        self.saw(revision);
        Ok(revision)
    }

    async fn delete(&self, range: KeyRange) -> Result<(Revision, i64), KvError> {
        let request = convert::delete_to_pb(DeleteRequest { range, prev_kv: false });
        let call = |transport| {
            let (mut client, request) = (kv_client(transport), request.clone());
            async move { client.delete_range(request).await }
        };
        let response = self.attempt(Repeat::IfNotDone, call).await?;
        let revision = convert::revision_of(&response.header);
        self.saw(revision);
        Ok((revision, response.deleted))
    }
}

fn from_seconds(seconds: i64) -> Duration {
    Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
}
